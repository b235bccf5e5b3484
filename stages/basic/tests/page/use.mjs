// Reads a report as a person would: sorts, filters, hovers, zooms, prints; fails on anything that the console or the network sees.
import { strict as assert } from "node:assert";
import { browser, noise, open } from "./browser.mjs";

for (const width of [400, 1280, 2560, 3840]) {
  for (const scheme of ["light", "dark"]) {
    const page = await open(width, scheme);
    await page.locator("#answers").scrollIntoViewIfNeeded();
    await page.locator(".prompt").first().waitFor();
    await page.evaluate(() => document.querySelector("[name=filter]").append(new Option("where one of a long name lost to another ".repeat(3))));
    const spill = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(spill <= 0, `at ${width} px the page is ${spill} px too wide`);
    await page.context().close();
  }
}

const page = await open(1280, "light");
const title = await page.title();

const arms = () => page.locator("table.arms tbody th .name").allTextContents();
await page.locator("table.arms thead button").nth(1).click();
assert.deepEqual(await arms(), ["neft10", "neft5", "plain", "untouched model"], "loss, largest first, what has none last");
await page.locator("table.arms thead button").nth(1).press("Enter");
assert.deepEqual(await arms(), ["plain", "neft5", "neft10", "untouched model"], "loss, smallest first, by keyboard");

const chart = page.locator("#curves .u-over").first();
await page.locator("#curves").scrollIntoViewIfNeeded();
await chart.scrollIntoViewIfNeeded();
const box = await chart.boundingBox();
const tip = page.locator("#curves .tip").first();
for (let y = 4; y < box.height && !(await tip.isVisible()); y += 4) await page.mouse.move(box.x + box.width / 2, box.y + y);
assert.match(await tip.textContent(), /^\w+, seed=\d: [\d.]+ at step \d+$/);
await page.locator('#curves .keys button', { hasText: "neft5" }).click();
assert.equal(await page.locator('#curves .keys button', { hasText: "neft5" }).getAttribute("aria-pressed"), "false");

await page.locator("#answers").scrollIntoViewIfNeeded();
await page.locator(".prompt").first().waitFor();
const count = page.locator("[data-answers=count]");
assert.equal(await count.textContent(), "20 of 20 prompts");
await page.locator("[name=filter]").selectOption({ label: "where neft5 lost to plain" });
const lost = await page.locator(".answer", { hasText: "neft5" }).locator(".verdict").allTextContents();
assert.ok(lost.length > 0 && lost.every((verdict) => /^plain preferred \(\d/.test(verdict)), lost.join());
await page.locator("[name=filter]").selectOption("all");
const third = await page.locator(".prompt").nth(2).locator(".answer", { hasText: "neft5" }).locator(".verdict").allTextContents();
assert.deepEqual(third, ["a draw (50%)"], "a draw that is written as 0");
await page.locator("[name=text]").fill("</SCRIPT>");
assert.equal(await count.textContent(), "1 of 20 prompts");
assert.equal(await page.locator(".prompt script").count(), 0, "texts stay texts");
await page.getByRole("checkbox", { name: "plain", exact: true }).uncheck();
assert.equal(await page.locator(".answer", { hasText: "plain" }).locator("header .name", { hasText: /^plain$/ }).count(), 0);

await page.setViewportSize({ width: 1280, height: 900 });
await page.emulateMedia({ media: "print" });
await page.setViewportSize({ width: 718, height: 1000 });
const cut = await page.evaluate(() => [...document.querySelectorAll(".chart canvas, table.arms")]
  .filter((drawn) => drawn.getBoundingClientRect().right > drawn.closest(".chart, section").getBoundingClientRect().right + 1).length);
assert.equal(cut, 0, "nothing is cut on paper");
await page.emulateMedia({ media: "screen" });
await page.pdf({ format: "A4" });
assert.equal(await page.title(), title);
assert.deepEqual(noise, []);
await browser.close();
