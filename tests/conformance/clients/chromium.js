// Pages in a Chromium of this program. What goes wrong in one is told: an error of a script or on the console, or its end.
const { execFileSync } = require("child_process");
const fs = require("fs");
const http = require("http");
const path = require("path");
const readline = require("readline");
const { chromium } = require("playwright-core");

const tell = (event, more = {}) => console.log(JSON.stringify({ event, ...more }));

let browser;

// Errors on the console that hold this text are expected.
async function open(options = {}, expected) {
  browser ??= await chromium.launch({
    executablePath: execFileSync("sh", ["-c", "command -v chromium"]).toString().trim(),
    // Root has no sandbox, and a container often no room in /dev/shm.
    args: ["--no-sandbox", "--disable-dev-shm-usage"],
    handleSIGTERM: false,
  });
  const page = await browser.newPage({ ignoreHTTPSErrors: true, ...options });
  page.on("console", (message) => {
    const text = message.text();
    if (message.type() === "error" && !(expected && text.includes(expected))) tell("fault", { text });
  });
  page.on("pageerror", (error) => tell("fault", { text: String(error) }));
  page.on("crash", () => tell("fault", { text: "the page crashed" }));
  return page;
}

let leaving;

// Ends the program once, and leaves no profile behind.
function leave(code = 0) {
  leaving ??= Promise.resolve(browser?.close()).then(() => process.exit(code));
  return leaving;
}

process.on("SIGTERM", () => leave());

// Does what each line says until there is no more.
async function obey(todo) {
  try {
    for await (const line of readline.createInterface({ input: process.stdin })) await todo(JSON.parse(line));
    await leave();
  } catch (error) {
    tell("fault", { text: String(error) });
    await leave(1);
  }
}

// Serves these files, by the names they have, and returns the origin.
async function serve(files) {
  const known = new Map(files.map((file) => [`/${path.basename(file)}`, file]));
  const server = http.createServer((request, response) => {
    const file = known.get(request.url);
    if (!file) return response.writeHead(404).end();
    response.writeHead(200, { "content-type": file.endsWith(".js") ? "text/javascript" : "text/html; charset=utf-8" });
    fs.createReadStream(file).pipe(response);
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  return `http://127.0.0.1:${server.address().port}`;
}

module.exports = { obey, open, serve, tell };
