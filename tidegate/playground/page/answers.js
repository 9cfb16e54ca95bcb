// Answers as people read them: bars for classes, pictures, tables, text, and else JSON or bytes.

const LABEL_KEYS = ["label", "class", "class_name", "name", "category"];
const SCORE_KEYS = ["probability", "score", "confidence", "prob"];
const SCORES_KEYS = ["probabilities", "scores", "probs"];
const MOST_ROWS = 200;
const MOST_TEXT = 200000;

const firstKey = (object, keys) => keys.find((key) => key in object);
const isShare = (value) => typeof value === "number" && value >= -1e-6 && value <= 1 + 1e-6;
const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const isPlain = (value) => value === null || typeof value !== "object";

function areShares(values) {
  return values.length > 1 && values.every(isShare) && Math.abs(values.reduce((sum, each) => sum + each, 0) - 1) < 0.02;
}

// [[label, share], …] of a value that says how likely each class is; null for any other.
function classShares(value, labels) {
  const named = (shares) => shares.map((share, place) => [labels.length === shares.length ? labels[place] : String(place), share]);
  if (Array.isArray(value)) {
    if (areShares(value)) return named(value);
    if (value.length < 2 || !value.every(isObject)) return null;
    const [label, score] = [firstKey(value[0], LABEL_KEYS), firstKey(value[0], SCORE_KEYS)];
    if (!label || !score || firstKey(value[0], SCORES_KEYS) || !value.every((each) => isShare(each[score]))) return null;
    const shares = value.map((each) => [String(each[label]), each[score]]);
    // The same class twice: these are several answers, and no answer with several classes.
    const different = new Set(shares.map(([name]) => name)).size === shares.length;
    return different && shares.reduce((sum, [, share]) => sum + share, 0) < 1.02 ? shares : null;
  }
  if (!isObject(value)) return null;
  const scores = firstKey(value, SCORES_KEYS);
  if (scores && Array.isArray(value[scores]) && value[scores].length > 1 && value[scores].every(isShare)) {
    const own = value.labels ?? value.classes;
    const names = Array.isArray(own) ? own.map(String) : labels;
    return value[scores].map((share, place) => [names.length === value[scores].length ? names[place] : String(place), share]);
  }
  if (scores && isObject(value[scores]) && areShares(Object.values(value[scores]))) return Object.entries(value[scores]);
  if (areShares(Object.values(value))) return Object.entries(value);
  const [label, score] = [firstKey(value, LABEL_KEYS), firstKey(value, SCORE_KEYS)];
  return label && score && isPlain(value[label]) && isShare(value[score]) ? [[String(value[label]), value[score]]] : null;
}

function bars(shares, said) {
  const sorted = [...shares].sort((one, other) => other[1] - one[1]).slice(0, 12);
  const rows = sorted.flatMap(([label, share], place) => {
    const weight = place === 0 ? "best" : null;
    return [
      element("span", { class: weight }, label),
      drawn("svg", { viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" },
        drawn("rect", { class: "track", width: 100, height: 8 }),
        drawn("rect", { class: "fill", width: Math.max(0.5, 100 * share), height: 8 })),
      element("span", { class: weight }, `${(100 * share).toFixed(1)} %`),
    ];
  });
  const guess = said ?? sorted[0][0];
  const more = shares.length > sorted.length ? element("p", { class: "note" }, `${shares.length - sorted.length} more classes`) : null;
  return element("div", {}, element("p", { class: "guess" }, String(guess)), element("div", { class: "bars" }, ...rows), more);
}

async function shownValue(value, labels, depth = 0) {
  const shares = classShares(value, labels);
  if (shares) {
    const label = isObject(value) ? firstKey(value, LABEL_KEYS) : null;
    return bars(shares, label && isPlain(value[label]) ? value[label] : null);
  }
  const picture = ofDataUri(value);
  if (picture) return element("img", { src: value, alt: `The picture of the answer, ${sizeWords(picture.bytes.length)}` });
  if (typeof value === "string") return element("p", { class: "told" }, value.slice(0, MOST_TEXT));
  if (isObject(value)) {
    const entries = Object.entries(value);
    if (entries.length === 1 && depth < 4) return shownValue(entries[0][1], labels, depth + 1);
    if (depth < 4 && entries.some(([, each]) => ofDataUri(each) || classShares(each, labels))) {
      const parts = await Promise.all(entries.map(async ([name, each]) => [element("h3", {}, name), await shownValue(each, labels, depth + 1)]));
      return element("div", {}, ...parts.flat());
    }
    if (entries.length && entries.every(([, each]) => isPlain(each))) {
      return table(["name", "value"], entries.slice(0, MOST_ROWS), "The answer");
    }
  }
  if (Array.isArray(value) && value.length) {
    if (value.length === 1 && depth < 4 && !isPlain(value[0])) return shownValue(value[0], labels, depth + 1);
    if (depth < 4 && value.every((each) => classShares(each, labels) || ofDataUri(each))) {
      const parts = await Promise.all(value.slice(0, 16).map((each) => shownValue(each, labels, depth + 1)));
      return element("div", {}, ...parts, element("p", { class: "note" }, `${value.length} answers`));
    }
    if (value.every(isObject) && value.every((row) => Object.values(row).every(isPlain))) {
      const heads = [...new Set(value.slice(0, MOST_ROWS).flatMap(Object.keys))];
      return table(heads, value.slice(0, MOST_ROWS).map((row) => heads.map((head) => row[head])), rowsWords(value.length));
    }
    if (value.every((row) => Array.isArray(row) && row.every(isPlain))) return table(null, value.slice(0, MOST_ROWS), rowsWords(value.length));
    if (value.every(isPlain)) return table(null, value.slice(0, MOST_ROWS).map((each) => [each]), rowsWords(value.length));
  }
  return element("pre", { tabindex: "0", role: "region", "aria-label": "The answer as JSON" }, JSON.stringify(value, null, 2).slice(0, MOST_TEXT));
}

function rowsWords(count) {
  const all = count === 1 ? "1 row" : `${count} rows`;
  return count > MOST_ROWS ? `The first ${MOST_ROWS} of ${all}` : all;
}

function csvRows(text) {
  const rows = [[]];
  const cell = /("(?:[^"]|"")*"|[^,\r\n]*)(,|\r?\n|$)/y;
  while (cell.lastIndex < text.length) {
    const [, raw, end] = cell.exec(text) ?? [];
    if (raw === undefined) return null;
    const value = raw.startsWith('"') ? raw.slice(1, -1).replaceAll('""', '"') : raw;
    const number = raw.trim() !== "" && !raw.startsWith('"') ? Number(raw) : NaN;
    rows.at(-1).push(Number.isNaN(number) ? value : number);
    if (end === ",") {
      if (cell.lastIndex === text.length) rows.at(-1).push("");
    } else if (cell.lastIndex < text.length) rows.push([]);
  }
  return rows;
}

const mediaType = (header) => (header ?? "").split(";")[0].trim().toLowerCase();

// What is shown of a whole answer.
async function shownAnswer(type, bytes, labels) {
  const media = mediaType(type);
  if (!bytes.length) return element("p", { class: "note" }, "The body is empty.");
  if (/^image\/(png|jpeg|gif|webp|bmp)$/.test(media)) {
    return element("img", { src: dataUri(bytes, media), alt: `The picture of the answer, ${sizeWords(bytes.length)}` });
  }
  const array = readNpy(bytes);
  if (array) return shownArray(array, labels);
  const text = textOf(bytes);
  if (text === null) return element("pre", { tabindex: "0", role: "region", "aria-label": "The answer as bytes" }, hexOf(bytes));
  if (media === "text/csv") {
    const rows = csvRows(text);
    if (rows) return table(null, rows.slice(0, MOST_ROWS), rowsWords(rows.length));
  }
  if (media === "text/event-stream") return element("p", { class: "told" }, new StreamReader(media).take(bytes).slice(0, MOST_TEXT));
  try {
    if (media === "application/jsonlines" || media === "application/x-ndjson") {
      return await shownValue(text.split("\n").filter((line) => line.trim()).map((line) => JSON.parse(line)), labels);
    }
    if (media === "application/json" || media.endsWith("+json") || /^\s*[[{]/.test(text)) return await shownValue(JSON.parse(text), labels);
  } catch {
    // Not what its type says: shown as text.
  }
  return element("p", { class: "told" }, text.slice(0, MOST_TEXT));
}

async function shownArray(array, labels) {
  const words = element("p", { class: "note" }, `An array of ${array.dtype}, shape (${array.shape.join(", ")})`);
  const pictures = asPictures(array.shape);
  if (pictures) return element("div", {}, words, await greyPictures(array.values, pictures));
  const value = array.values.length <= 20000 ? nested(array.values, array.shape) : array.values.slice(0, MOST_ROWS);
  return element("div", {}, words, await shownValue(value, labels));
}

// What a stream says so far, as text: tokens of server-sent events, the text of JSON lines, or the text itself.
class StreamReader {
  constructor(type) {
    this.media = mediaType(type);
    this.decoder = new TextDecoder();
    this.rest = "";
    this.text = "";
    this.failure = "";
  }

  get lines() {
    return ["text/event-stream", "application/jsonlines", "application/x-ndjson"].includes(this.media);
  }

  // Takes the next bytes; returns all of the text so far.
  take(bytes) {
    const more = this.decoder.decode(bytes, { stream: true });
    if (!this.lines) return (this.text += more);
    const lines = (this.rest + more).split(/\r?\n/);
    this.rest = lines.pop();
    for (const line of lines) this.text += this.ofLine(line);
    return this.text;
  }

  end() {
    if (this.rest) this.text += this.ofLine(this.rest);
    this.rest = "";
    return this.text;
  }

  ofLine(line) {
    const events = this.media === "text/event-stream";
    if (!line || (events && !line.startsWith("data:"))) return "";
    const data = events ? line.slice(5).replace(/^ /, "") : line;
    if (data === "[DONE]") return "";
    try {
      return this.ofValue(JSON.parse(data)) ?? `${data}\n`;
    } catch {
      return events ? data : `${data}\n`;
    }
  }

  ofValue(value) {
    if (!isObject(value)) return null;
    if (isObject(value.error)) {
      this.failure = String(value.error.message ?? "The stream was broken off.");
      return "";
    }
    if (Array.isArray(value.choices)) {
      return value.choices.map((each) => each.delta?.content ?? each.message?.content ?? each.text ?? "").join("");
    }
    const key = ["text", "token", "generated_text", "content", "delta"].find((name) => typeof value[name] === "string");
    return key ? value[key] : null;
  }
}

// The sentence of an error's body, in the server's form or in AWS's.
function sentenceOf(bytes) {
  const text = textOf(bytes) ?? "";
  try {
    const said = JSON.parse(text);
    const inner = said.OriginalMessage ?? said.error?.message ?? said.error ?? said.Message ?? said.message ?? said.detail;
    if (typeof inner === "string" && inner) {
      if (inner === said.OriginalMessage && /^\s*\{/.test(inner)) return sentenceOf(encodeText(inner)) || inner;
      return inner;
    }
  } catch {
    // Plain text, as of other servers.
  }
  return text.trim().slice(0, 2000);
}
