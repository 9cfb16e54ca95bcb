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

function table(heads, rows, caption) {
  const cell = (value) => {
    const number = typeof value === "number";
    return element("td", number ? { class: "number" } : {}, number ? shortNumber(value) : String(value ?? ""));
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

function sizeWords(bytes) {
  if (bytes < 1024) return `${bytes} bytes`;
  return bytes < 1 << 20 ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / (1 << 20)).toFixed(1)} MiB`;
}
