// Bytes: base64, text, and numpy's npy files in both directions.

const encodeText = (text) => new TextEncoder().encode(text);
const decodeText = (bytes) => new TextDecoder().decode(bytes);

function fromBase64(text) {
  const binary = atob(text);
  return Uint8Array.from(binary, (character) => character.charCodeAt(0));
}

function toBase64(bytes) {
  let binary = "";
  for (let start = 0; start < bytes.length; start += 0x8000) {
    binary += String.fromCharCode(...bytes.subarray(start, start + 0x8000));
  }
  return btoa(binary);
}

// Which text a body, or its beginning, is; null where it is not UTF-8 or holds control characters: that is shown as hex.
function textOf(bytes, limit = Infinity) {
  try {
    // As a stream where it is cut: the cut may be inside a character.
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(0, limit), { stream: bytes.length > limit });
    return /[\u0000-\u0008\u000e-\u001f]/.test(text) ? null : text;
  } catch {
    return null;
  }
}

function hexOf(bytes, limit = 512) {
  const lines = [];
  for (let start = 0; start < Math.min(bytes.length, limit); start += 16) {
    const row = [...bytes.subarray(start, Math.min(start + 16, limit))];
    const hex = row.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const letters = row.map((byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : ".")).join("");
    lines.push(`${start.toString(16).padStart(6, "0")}  ${hex.padEnd(47)}  ${letters}`);
  }
  if (bytes.length > limit) lines.push(`… ${bytes.length - limit} more bytes`);
  return lines.join("\n");
}

const NPY_READERS = {
  f2: ["getFloat16", 2], f4: ["getFloat32", 4], f8: ["getFloat64", 8],
  i1: ["getInt8", 1], i2: ["getInt16", 2], i4: ["getInt32", 4], i8: ["getBigInt64", 8],
  u1: ["getUint8", 1], u2: ["getUint16", 2], u4: ["getUint32", 4], u8: ["getBigUint64", 8], b1: ["getUint8", 1],
};

const NPY_KINDS = { f: "float", i: "int", u: "uint", b: "bool" };

// As numpy names it: float32 for f4.
const dtypeName = (dtype) => (dtype === "b1" ? "bool" : `${NPY_KINDS[dtype[0]]}${8 * Number(dtype[1])}`);

// {dtype, shape, values, exact}, values in C order; null for what is none or holds objects. `exact` are the values as
// text where some whole number is none of JavaScript's, else null.
// The format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
function readNpy(bytes) {
  if (bytes.length < 12 || bytes[0] !== 0x93 || decodeText(bytes.subarray(1, 6)) !== "NUMPY") return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const [at, length] = bytes[6] === 1 ? [10, view.getUint16(8, true)] : [12, view.getUint32(8, true)];
  const head = decodeText(bytes.subarray(at, at + length));
  const [, order, dtype] = /'descr':\s*'([<>|=]?)([fiub]\d)'/.exec(head) ?? [];
  const shapeText = /'shape':\s*\(([^)]*)\)/.exec(head)?.[1];
  const reader = NPY_READERS[dtype];
  if (!reader || shapeText === undefined || /'fortran_order':\s*True/.test(head)) return null;
  const [get, size] = reader;
  const shape = shapeText.split(",").map((part) => part.trim()).filter(Boolean).map(Number);
  const count = shape.reduce((product, side) => product * side, 1);
  if (!view[get] || at + length + count * size > bytes.length) return null;
  const read = (place) => view[get](at + length + place * size, order !== ">");
  const values = Array.from({ length: count }, (_, place) => Number(read(place)));
  const unsafe = get.includes("Big") && !values.every(Number.isSafeInteger);
  return { dtype, shape, values, exact: unsafe ? values.map((_, place) => String(read(place))) : null };
}

function writeNpy({ dtype, shape, values }) {
  const [get, size] = NPY_READERS[dtype];
  const sides = shape.length === 1 ? `${shape[0]},` : shape.join(", ");
  const descr = size === 1 ? `|${dtype}` : `<${dtype}`;
  let head = `{'descr': '${descr}', 'fortran_order': False, 'shape': (${sides}), }`;
  head = head.padEnd(Math.ceil((10 + head.length + 1) / 64) * 64 - 11) + "\n";
  const bytes = new Uint8Array(10 + head.length + values.length * size);
  bytes.set([0x93, ...encodeText("NUMPY"), 1, 0, head.length & 255, head.length >> 8]);
  bytes.set(encodeText(head), 10);
  const view = new DataView(bytes.buffer);
  const set = get.replace("get", "set");
  const whole = dtype[0] !== "f";
  values.forEach((value, place) => {
    const number = whole ? Math.round(value) : value;
    view[set](10 + head.length + place * size, get.includes("Big") ? BigInt(number) : number, true);
  });
  return bytes;
}

// An array as JSON, which other programs can read and people can change; null where it is too large for that, or where
// JSON has no such numbers.
function jsonOfArray({ dtype, shape, values, exact }) {
  if (values.length > 20000 || !values.every(Number.isFinite)) return null;
  const text = (value) => {
    if (dtype === "b1") return String(Boolean(value));
    if (dtype !== "f4") return String(value);
    // The shortest that is the same float32.
    return String(Number([6, 7, 8].map((digits) => value.toPrecision(digits)).find((short) => Math.fround(Number(short)) === value) ?? value));
  };
  const written = (value) => (Array.isArray(value) ? `[${value.map(written).join(", ")}]` : value);
  return written(nested((exact ?? values).map(text), shape));
}

// Whether JavaScript's numbers cannot hold a number of a JSON text: whole ones beyond 2^53, and what becomes infinite.
function changesNumbers(json) {
  for (const [token] of json.matchAll(/"[^"\\]*(?:\\.[^"\\]*)*"|-?\d[\d.eE+-]*/gs)) {
    if (token[0] === '"') continue;
    const number = Number(token);
    if (!Number.isFinite(number) || (/^-?\d+(?:\.\d+)?$/.test(token) && Math.abs(number) > Number.MAX_SAFE_INTEGER)) return true;
  }
  return false;
}

function nested(values, shape) {
  if (!shape.length) return values[0];
  if (shape.length === 1) return values.slice(0, shape[0]);
  const size = values.length / shape[0];
  return Array.from({ length: shape[0] }, (_, row) => nested(values.slice(row * size, (row + 1) * size), shape.slice(1)));
}

// The shape of a regular nested list of numbers; null for anything else.
function shapeOf(value) {
  if (typeof value === "number") return [];
  if (!Array.isArray(value) || !value.length) return null;
  const inner = shapeOf(value[0]);
  if (!inner) return null;
  const wanted = inner.join();
  return value.every((each) => shapeOf(each)?.join() === wanted) ? [value.length, ...inner] : null;
}
