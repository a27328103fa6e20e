// Reads {"chromium", "flags", "categories", "pages": [{"url", "cookie", "preset"}]} as JSON from
// standard input, and writes the pages' scores, 0 to 100, and what was found wanting.

import * as chromium from "chrome-launcher";
import lighthouse, { desktopConfig } from "lighthouse";

const task = JSON.parse(await new Response(process.stdin).text());
// What does not depend on time need not wait for the page to be still, and nobody sees pictures.
const settings = { onlyCategories: task.categories, disableFullPageScreenshot: true };
if (!task.categories.includes("performance")) {
  const waits = ["pauseAfterFcpMs", "pauseAfterLoadMs", "networkQuietThresholdMs", "cpuQuietThresholdMs"];
  for (const name of waits) settings[name] = 0;
}
const browser = await chromium.launch({ chromePath: task.chromium, chromeFlags: task.flags });

async function audit({ url, cookie, preset }) {
  const { lhr } = await lighthouse(
    url,
    {
      port: browser.port,
      logLevel: "error",
      ...settings,
      extraHeaders: cookie ? { Cookie: cookie } : undefined,
    },
    preset === "desktop" ? desktopConfig : undefined,
  );
  const categories = Object.values(lhr.categories);
  return {
    address: lhr.finalDisplayedUrl,
    scores: Object.fromEntries(categories.map(({ id, score }) => [id, Math.round(score * 100)])),
    wanting: categories
      .filter(({ id }) => id !== "performance")
      .flatMap(({ auditRefs }) => auditRefs)
      .filter(({ id, weight }) => weight > 0 && lhr.audits[id].score === 0)
      .map(({ id }) => id),
  };
}

try {
  const results = [];
  // One after the other: they share the browser, and would slow each other down.
  for (const page of task.pages) results.push(await audit(page));
  console.log(JSON.stringify(results));
} finally {
  browser.kill();
}
