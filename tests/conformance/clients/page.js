// A user of a page in Chromium who does what is told, line by line in JSON, and tells what is seen.
const { obey, open, serve, tell } = require("./chromium");

const PATIENCE = 25_000;
let page;

const todo = {
  // Serves a file, so that the page has an origin.
  serve: async ({ file }) => ({ origin: await serve([file]) }),
  async open({ url, width, height, dark, expected }) {
    page = await open({ viewport: { width, height }, colorScheme: dark ? "dark" : "light" }, expected);
    page.setDefaultTimeout(PATIENCE);
    await page.goto(url);
  },
  fill: ({ label, value }) => page.locator("input, textarea").and(page.getByLabel(new RegExp(`^${label}`))).fill(value),
  press: ({ button }) => page.getByRole("button", { name: button, exact: true }).click(),
  key: ({ keys }) => page.keyboard.press(keys),
  see: ({ text }) => page.getByText(text).first().waitFor(),
  // Whether all of it fits into the width, and which fields have no label.
  look: () =>
    page.evaluate(() => ({
      overflows: document.documentElement.scrollWidth > document.documentElement.clientWidth,
      unlabeled: [...document.querySelectorAll("input, textarea")].filter((field) => !field.labels.length).length,
    })),
  shot: ({ path }) => page.screenshot({ path, fullPage: true }).then(() => {}),
};

obey(async (said) => tell(said.do, await todo[said.do](said)));
