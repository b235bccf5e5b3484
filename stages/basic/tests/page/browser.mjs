// A Chromium that hears everything that a page says to the console or asks of the network.
import { execFileSync } from "node:child_process";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const [path, program] = process.argv.slice(2);
const ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const executablePath = program.includes("/") ? program : execFileSync("sh", ["-c", `command -v ${program}`], { encoding: "utf8" }).trim();

export const browser = await chromium.launch({ executablePath, args: ARGUMENTS });

/** What pages said and asked for, which should be nothing. */
export const noise = [];

/** Opens the page in a window of its own. */
export async function open(width, colorScheme = "light") {
  const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme });
  const page = await context.newPage();
  page.on("console", (message) => noise.push(`console: ${message.text()}`));
  page.on("pageerror", (error) => noise.push(`error: ${error.message}`));
  page.on("request", (request) => { if (!request.url().startsWith("file:")) noise.push(`request: ${request.url()}`); });
  await page.goto(pathToFileURL(path).href);
  return page;
}
