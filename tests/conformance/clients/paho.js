// A device of Paho JavaScript in Chromium that does what it is told, line by line in JSON, and tells what happens.
const path = require("path");
const { obey, open, serve, tell } = require("./chromium");

async function load() {
  const page = await open();
  await page.exposeFunction("tell", tell);
  const origin = await serve([path.join(__dirname, "paho.html"), require.resolve("paho-mqtt/paho-mqtt.js")]);
  await page.goto(`${origin}/paho.html`);
  return page;
}

let page;
obey(async (said) => {
  page ??= await load();
  // Who goes to another page says no goodbye.
  if (said.do === "drop") await page.goto("about:blank");
  else await page.evaluate((said) => todo[said.do](said), said);
});
