// Elements: found by their ids, and made with their attributes and children. Text is always text, never markup.

const byId = (id) => document.getElementById(id);

const SVG = "http://www.w3.org/2000/svg";

function made(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) node.setAttribute(name, String(value));
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const element = (name, attributes = {}, ...children) => made(document.createElement(name), attributes, children);
const drawn = (name, attributes = {}, ...children) => made(document.createElementNS(SVG, name), attributes, children);

const MOST_COLUMNS = 100;

// A table with the first columns of its rows, of values or elements; `caption` says how many rows there are.
function table(heads, rows, caption) {
  const columns = rows.reduce((most, row) => Math.max(most, row.length), heads?.length ?? 0);
  if (columns > MOST_COLUMNS) {
    const cut = (row) => row.slice(0, MOST_COLUMNS);
    return table(heads && cut(heads), rows.map(cut), `${caption}, the first ${MOST_COLUMNS} of ${columns} columns`);
  }
  const cell = (value) => {
    const number = typeof value === "number";
    return element("td", number ? { class: "number" } : {}, number ? shortNumber(value) : value instanceof Node ? value : String(value ?? ""));
  };
  const head = heads
    ? [element("thead", {}, element("tr", {}, ...heads.map((name) => element("th", { scope: "col" }, String(name)))))]
    : [];
  const body = element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map(cell))));
  const whole = element("table", {}, element("caption", {}, caption), ...head, body);
  // A table that scrolls must be reachable by keyboard.
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, whole);
}

function shortNumber(value) {
  if (!Number.isFinite(value) || Number.isInteger(value)) return String(value);
  return Math.abs(value) >= 1e6 || Math.abs(value) < 1e-4 ? value.toExponential(4) : String(Number(value.toPrecision(6)));
}

const timeWords = (ms) => (ms < 10000 ? `${ms.toFixed(1)} ms` : `${(ms / 1000).toFixed(1)} s`);

// 100 % and 0 % only where they are meant: else with a second digit, or as less or more than what that can say.
function shareWords(share) {
  const percent = 100 * Math.min(1, Math.max(0, share));
  for (let digits = 1; digits <= 2; digits++) {
    const rounded = percent.toFixed(digits);
    const isEnd = Number(rounded) === 0 || Number(rounded) === 100;
    if (!isEnd || Number(rounded) === percent) return `${rounded} %`;
  }
  return percent < 50 ? "< 0.01 %" : "> 99.99 %";
}

// A picture, and where its bytes are none, a sentence.
function pictureShown(src, alt) {
  const image = element("img", { src, alt });
  image.addEventListener("error", () => image.replaceWith(element("p", { class: "note" }, "The browser cannot show this picture: its bytes are not what its type says.")));
  return image;
}

function sizeWords(bytes) {
  if (bytes < 1024) return `${bytes} bytes`;
  return bytes < 1 << 20 ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / (1 << 20)).toFixed(1)} MiB`;
}
