// Opens a page in Debian's Chromium and says what happened, as JSON on stdout.
// stdin: {"url", "modules", "views": [{"name", "width", "height", "scheme", "screenshot"?}], "steps": bool, "axe": bool}
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const ask = JSON.parse(readFileSync(0, "utf8"));
const require = createRequire(`${ask.modules}/`);
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const browser = await chromium.launch({ executablePath: ask.chromium, args: ["--no-sandbox", "--disable-gpu"] });
const answer = { views: [], steps: null };
for (const view of ask.views) {
  const context = await browser.newContext({
    viewport: { width: view.width, height: view.height },
    colorScheme: view.scheme,
    permissions: ["clipboard-read", "clipboard-write"],
  });
  const page = await context.newPage();
  const requests = [];
  const messages = [];
  page.on("request", (request) => requests.push(request.url()));
  page.on("requestfailed", (request) => {
    if (request.failure()?.errorText === "csp") requests.splice(requests.indexOf(request.url()), 1);
  });
  page.on("console", (message) => messages.push(message.text()));
  page.on("pageerror", (error) => messages.push(`error: ${error.message}`));
  page.on("dialog", (dialog) => { messages.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  await page.goto(ask.url);
  if (view.screenshot) await page.screenshot({ path: view.screenshot, fullPage: true });
  await page.evaluate(() => { for (const part of document.querySelectorAll("details")) part.open = true; });
  if (ask.axe) await page.evaluate(axe);
  const result = !ask.axe ? { passes: [], violations: [] } : await page.evaluate(() => window.axe.run(document, {
    runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
  }));
  answer.views.push({
    name: view.name,
    requests: requests.filter((url) => url !== ask.url && !url.startsWith("data:")),
    messages,
    pwned: await page.evaluate(() => window.pwned ?? null),
    overflow: await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth),
    background: await page.evaluate(() => getComputedStyle(document.body).backgroundColor),
    passes: result.passes.length,
    violations: result.violations.map((v) => `${v.id}: ${v.help}: ${v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160)).join(" | ")}`),
  });
  if (ask.steps && answer.steps === null) answer.steps = await steps(page);
  await context.close();
}
await browser.close();
console.log(JSON.stringify(answer));

// What somebody does without a mouse, and what the timeline does for somebody with one.
async function steps(page) {
  const done = {};
  await page.reload();
  done.shown = await page.locator("ol.backups > li:visible").count();
  let tabs = 0;
  do {
    await page.keyboard.press("Tab");
    tabs += 1;
  } while (tabs < 60 && !(await page.evaluate(() => document.activeElement.matches("button[data-copy]"))));
  done.tabsToCopy = tabs;
  done.outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  done.wanted = await page.evaluate(() => document.activeElement.dataset.copy);
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.getElementById("said").textContent !== "");
  done.said = await page.locator("#said").textContent();
  done.copied = await page.evaluate(() => navigator.clipboard.readText());
  await page.locator("#filter").fill("pre-deploy");
  done.filtered = await page.locator("ol.backups > li:visible").count();
  done.found = await page.locator("#found").textContent();
  const mark = page.locator("[data-jump]").first();
  await mark.click();
  done.jumpedTo = await page.evaluate(() => document.activeElement.id);
  done.jumpWanted = await mark.getAttribute("data-jump");
  return done;
}
