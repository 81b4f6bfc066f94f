// Opens pages in Chromium at two widths, light, dark and as printed. Fails on messages of the console, on requests that
// leave the page, on text wider than the screen and on violations that axe finds. Stores a picture of each.
//
// node look.mjs CHROMIUM PICTURES PAGE.html ...
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

const require = createRequire(path.join(process.cwd(), "package.json"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const [executablePath, pictures, ...pages] = process.argv.slice(2);
const WIDTHS = [1280, 390];
const LOOKS = [["light", "screen"], ["dark", "screen"], ["light", "print"]];
const wrong = [];
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
for (const file of pages) {
  const name = `${path.basename(path.dirname(file))}-${path.basename(file, ".html")}`;
  for (const width of WIDTHS) {
    for (const [colorScheme, media] of LOOKS) {
      const look = `${name}-${width}-${media === "print" ? media : colorScheme}`;
      const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme, bypassCSP: true });
      const page = await context.newPage();
      page.on("console", (message) => wrong.push(`${look}: the console says: ${message.text()}`));
      page.on("pageerror", (error) => wrong.push(`${look}: ${error}`));
      page.on("request", (request) => {
        const url = request.url();
        if (!url.startsWith("data:") && url !== pathToFileURL(path.resolve(file)).href) wrong.push(`${look}: requests ${url}`);
      });
      await page.goto(pathToFileURL(path.resolve(file)).href);
      await page.emulateMedia({ media, colorScheme });
      const play = page.locator("[data-play]");
      if (await play.isVisible().catch(() => false)) {
        const slider = page.locator("#frame");
        await slider.focus();
        await page.keyboard.press("Home");
        const first = await page.locator("output").textContent();
        await page.keyboard.press("End");
        const last = await page.locator("output").textContent();
        await slider.blur();
        if (first === last) wrong.push(`${look}: the slider does not move with the keyboard`);
      }
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      if (media === "screen" && overflow > 0) wrong.push(`${look}: is ${overflow} px wider than the screen`);
      if (media === "screen") {  // with everything unfolded, then again as it opens
        await page.evaluate(() => document.querySelectorAll("details").forEach((part) => { part.open = true; }));
        await page.evaluate(axe);
        const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
        for (const { id, help, nodes } of found.violations) {
          wrong.push(`${look}: axe ${id}: ${help} (${nodes.length}, such as ${nodes[0].target})`);
        }
        await page.reload();
      }
      await page.screenshot({ path: path.join(pictures, `${look}.png`), fullPage: true });
      await context.close();
    }
  }
}
await browser.close();
for (const sentence of wrong) console.log(sentence);
console.log(`${pages.length} pages, ${WIDTHS.length * LOOKS.length} looks each: ${wrong.length ? `${wrong.length} things are wrong` : "nothing is wrong"}`);
process.exitCode = wrong.length ? 1 : 0;
