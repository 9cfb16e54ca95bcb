// Answers as people read them: bars for classes, pictures, tables, text, and else JSON or bytes.

const LABEL_KEYS = ["label", "class", "class_name", "name", "category"];
const SCORE_KEYS = ["probability", "score", "confidence", "prob"];
const SCORES_KEYS = ["probabilities", "scores", "probs"];
const MOST_ROWS = 200;
const MOST_ANSWERS = 16;
const MOST_TEXT = 200000;
// What is larger is neither parsed nor laid out: its beginning is shown, and the whole is a download.
const MOST_BYTES = 4 << 20;
const MOST_OF_LARGE = 20000;

const firstKey = (object, keys) => keys.find((key) => key in object);
const isShare = (value) => typeof value === "number" && value >= -1e-6 && value <= 1 + 1e-6;
const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const isPlain = (value) => value === null || typeof value !== "object";

function areShares(values) {
  return values.length > 1 && values.every(isShare) && Math.abs(values.reduce((sum, each) => sum + each, 0) - 1) < 0.02;
}

// Shares with the names of their classes; without names, `numbered` says that the labels are only numbers.
function namedShares(shares, names) {
  const numbered = names.length !== shares.length;
  return Object.assign(shares.map((share, place) => [numbered ? String(place) : names[place], share]), { numbered });
}

// [[label, share], …] of a value that says how likely each class is; null for any other.
function classShares(value, labels) {
  if (Array.isArray(value)) {
    if (areShares(value)) return namedShares(value, labels);
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
    return namedShares(value[scores], Array.isArray(own) ? own.map(String) : labels);
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
      element("span", { class: weight }, shareWords(share)),
    ];
  });
  const guess = said ?? sorted[0][0];
  const more = shares.length > sorted.length ? element("p", { class: "note" }, `${shares.length - sorted.length} more classes`) : null;
  const numbers = shares.numbered ? element("p", { class: "note" }, "The classes have no names in the archive: these are their places, from 0.") : null;
  return element("div", {}, element("p", { class: "guess" }, String(guess)), numbers, element("div", { class: "bars" }, ...rows), more);
}

async function shownValue(value, labels, depth = 0) {
  const shares = classShares(value, labels);
  if (shares) {
    const label = isObject(value) ? firstKey(value, LABEL_KEYS) : null;
    return bars(shares, label && isPlain(value[label]) ? value[label] : null);
  }
  const picture = ofDataUri(value);
  if (picture) return pictureShown(value, `The picture of the answer, ${sizeWords(picture.bytes.length)}`);
  if (value === "") return element("p", { class: "note" }, "The answer is an empty string.");
  if (typeof value === "string") return element("p", { class: "told" }, value.slice(0, MOST_TEXT));
  if (isObject(value)) {
    const entries = Object.entries(value);
    if (entries.length === 1 && depth < 4) return shownValue(entries[0][1], labels, depth + 1);
    if (depth < 4 && entries.some(([, each]) => ofDataUri(each) || classShares(each, labels))) {
      const parts = await Promise.all(entries.slice(0, MOST_ROWS).map(async ([name, each]) => [element("h3", {}, name), await shownValue(each, labels, depth + 1)]));
      return element("div", {}, ...parts.flat());
    }
    if (entries.length && entries.every(([, each]) => isPlain(each))) {
      return table(["name", "value"], entries.slice(0, MOST_ROWS), "The answer");
    }
  }
  if (Array.isArray(value) && value.length) {
    if (value.length === 1 && depth < 4 && !isPlain(value[0])) return shownValue(value[0], labels, depth + 1);
    if (depth < 4 && value.every((each) => classShares(each, labels) || ofDataUri(each))) {
      const parts = await Promise.all(value.slice(0, MOST_ANSWERS).map((each) => shownValue(each, labels, depth + 1)));
      // One group for each: what one input got adds up, and what several got does not.
      const groups = parts.map((part, place) => {
        const name = `Answer ${place + 1} of ${value.length}`;
        return element("div", { class: "one", role: "group", "aria-label": name }, element("h3", {}, name), part);
      });
      const more = value.length > MOST_ANSWERS ? element("p", { class: "note" }, `The first ${MOST_ANSWERS} of ${value.length} answers`) : null;
      return element("div", {}, ...groups, more);
    }
    if (value.every(isObject) && value.every((row) => Object.values(row).every(isPlain))) {
      const heads = [...new Set(value.slice(0, MOST_ROWS).flatMap(Object.keys))];
      return table(heads, value.slice(0, MOST_ROWS).map((row) => heads.map((head) => row[head])), rowsWords(value.length));
    }
    if (value.every((row) => Array.isArray(row) && row.every(isPlain))) return table(null, value.slice(0, MOST_ROWS), rowsWords(value.length));
    if (value.every(isPlain)) return table(null, value.slice(0, MOST_ROWS).map((each) => [each]), rowsWords(value.length, "value"));
  }
  return element("pre", { tabindex: "0", role: "region", "aria-label": "The answer as JSON" }, JSON.stringify(value, null, 2).slice(0, MOST_TEXT));
}

function rowsWords(count, what = "row") {
  const all = `${count} ${what}${count === 1 ? "" : "s"}`;
  return count > MOST_ROWS ? `The first ${MOST_ROWS} of ${all}` : all;
}

function csvRows(text) {
  const rows = [[]];
  const cell = /("(?:[^"]|"")*"|[^,\r\n]*)(,|\r?\n|$)/y;
  while (cell.lastIndex < text.length) {
    const [, raw, end] = cell.exec(text) ?? [];
    if (raw === undefined) return null;
    const value = raw.startsWith('"') ? raw.slice(1, -1).replaceAll('""', '"') : raw;
    // A number only where it is shown as it was sent, or a fraction: 007 and what is beyond 2^53 stay text.
    const isNumber = (String(Number(raw)) === raw || /^-?\d+\.\d+$/.test(raw)) && !(Math.abs(Number(raw)) > Number.MAX_SAFE_INTEGER);
    rows.at(-1).push(isNumber ? Number(raw) : value);
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
    const src = bytes.length > MOST_BYTES ? addressOf(bytes, media) : dataUri(bytes, media);
    return pictureShown(src, `The picture of the answer, ${sizeWords(bytes.length)}`);
  }
  if (bytes.length > MOST_BYTES) return shownBeginning(type, bytes);
  const array = readNpy(bytes);
  if (array) return shownArray(array, labels);
  const text = textOf(bytes);
  if (text === null) return element("pre", { tabindex: "0", role: "region", "aria-label": "The answer as bytes" }, hexOf(bytes));
  if (media === "text/csv") {
    const rows = csvRows(text);
    if (rows) return table(null, rows.slice(0, MOST_ROWS), rowsWords(rows.length));
  }
  if (media === "text/event-stream") return element("p", { class: "told" }, new StreamReader(media).take(bytes).slice(0, MOST_TEXT));
  const isJson = media === "application/json" || media.endsWith("+json") || /^\s*[[{]/.test(text);
  const isLines = media === "application/jsonlines" || media === "application/x-ndjson";
  if ((isJson || isLines) && changesNumbers(text)) {
    const words = element("p", { class: "note" }, "Shown as sent: it has numbers that JavaScript would change.");
    return element("div", {}, words, element("p", { class: "told" }, text.slice(0, MOST_TEXT)));
  }
  try {
    if (isLines) {
      return await shownValue(text.split("\n").filter((line) => line.trim()).map((line) => JSON.parse(line)), labels);
    }
    if (isJson) return await shownValue(JSON.parse(text), labels);
  } catch {
    // Not what its type says: shown as text.
  }
  return element("p", { class: "told" }, text.slice(0, MOST_TEXT));
}

// An address of bytes for a link or a picture, until there is the next one.
let lastAddress = "";
function addressOf(bytes, media) {
  URL.revokeObjectURL(lastAddress);
  lastAddress = URL.createObjectURL(new Blob([bytes], { type: media || "application/octet-stream" }));
  return lastAddress;
}

function shownBeginning(type, bytes) {
  const text = textOf(bytes, MOST_OF_LARGE);
  const words = `The answer has ${sizeWords(bytes.length)}, more than the page reads (${sizeWords(MOST_BYTES)}). This is its beginning.`;
  const name = fileName(type).replace("request", "answer");
  return element("div", {},
    element("p", { class: "note" }, words, " ", element("a", { href: addressOf(bytes, mediaType(type)), download: name }, "Download the whole answer")),
    element("pre", { tabindex: "0", role: "region", "aria-label": "The beginning of the answer" }, text ?? hexOf(bytes)));
}

async function shownArray(array, labels) {
  const words = element("p", { class: "note" }, `An array of ${dtypeName(array.dtype)}, shape (${array.shape.join(", ")})`);
  const pictures = asPictures(array.shape);
  if (pictures) return element("div", {}, words, await greyPictures(array.values, pictures));
  const values = array.exact ?? array.values;
  const value = values.length <= 20000 ? nested(values, array.shape) : values.slice(0, MOST_ROWS);
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

  // More than the page shows: its parts are no longer laid out.
  get isFull() {
    return this.text.length > MOST_TEXT;
  }

  get lines() {
    return ["text/event-stream", "application/jsonlines", "application/x-ndjson"].includes(this.media);
  }

  // Takes the next bytes; returns all of the text so far.
  take(bytes) {
    const more = this.decoder.decode(bytes, { stream: true });
    if (!this.lines) return (this.text += more);
    if (!more.includes("\n")) {
      this.rest += more; // a long line is taken apart once, and not at each of its parts
      return this.text;
    }
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
      this.failure = nameRequest(String(value.error.message ?? "The stream was broken off."), value.error.request_id);
      return "";
    }
    if (Array.isArray(value.choices)) {
      return value.choices.map((each) => each.delta?.content ?? each.message?.content ?? each.text ?? "").join("");
    }
    const key = ["text", "token", "generated_text", "content", "delta"].find((name) => typeof value[name] === "string");
    return key ? value[key] : null;
  }
}

// A sentence that speaks of the request id is followed by it.
const nameRequest = (sentence, id) => (id && sentence.includes("request id") ? `${sentence} (request id ${id})` : sentence);

// The sentence of an error's body, in the server's form or in AWS's.
function sentenceOf(bytes) {
  const text = textOf(bytes, MOST_BYTES) ?? "";
  try {
    const said = JSON.parse(text);
    const inner = said.OriginalMessage ?? said.error?.message ?? said.error ?? said.Message ?? said.message ?? said.detail;
    if (typeof inner === "string" && inner) {
      if (inner === said.OriginalMessage && /^\s*\{/.test(inner)) return sentenceOf(encodeText(inner)) || inner;
      return nameRequest(inner, said.error?.request_id);
    }
  } catch {
    // Plain text, as of other servers.
  }
  return text.trim().slice(0, 2000);
}
