// Opens a page of many long answers and prints how long that takes; the time itself is nothing to fail on.
import { strict as assert } from "node:assert";
import { browser, noise, open } from "./browser.mjs";

const page = await open(1280);
const opened = await page.evaluate(() => performance.getEntriesByType("navigation")[0].loadEventEnd);

const before = Date.now();
await page.locator("#answers").scrollIntoViewIfNeeded();
await page.locator(".prompt").first().waitFor();
const unpacked = Date.now() - before;
assert.equal(await page.locator("[data-answers=count]").textContent(), "805 of 805 prompts");

const filtering = Date.now();
await page.locator("[name=filter]").selectOption({ label: "where neft5 lost to plain" });
assert.match(await page.locator("[data-answers=count]").textContent(), /^\d+ of 805 prompts$/);
assert.notEqual(await page.locator("[data-answers=count]").textContent(), "805 of 805 prompts");
console.log(`open ${Math.round(opened)} ms, answers ${unpacked} ms, filter ${Date.now() - filtering} ms`);

assert.deepEqual(noise, []);
await browser.close();
