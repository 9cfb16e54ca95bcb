// Pictures: pixels of a file, arrays as pictures, and PNG files with exactly the colours that they were given.

async function pixelsOf(bytes, type) {
  const bitmap = await createImageBitmap(new Blob([bytes], { type }), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}

// The colours of a picture as #rrggbb, the most frequent first; null where there are more than a palette has.
function paletteOf(image, most = 24) {
  const counts = new Map();
  for (let at = 0; at < image.data.length; at += 4) {
    const colour = (image.data[at] << 16) | (image.data[at + 1] << 8) | image.data[at + 2];
    counts.set(colour, (counts.get(colour) ?? 0) + 1);
    if (counts.size > most) return null;
  }
  const sorted = [...counts].sort((one, other) => other[1] - one[1]);
  return sorted.map(([colour]) => `#${colour.toString(16).padStart(6, "0")}`);
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, number) => {
  let value = number;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value >>> 0;
});

function crc32(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = CRC_TABLE[(value ^ byte) & 255] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

// Without alpha and without a colour profile: a canvas's own file has the first.
async function pngOf(image) {
  const { width, height, data } = image;
  const rows = new Uint8Array(height * (1 + width * 3));
  for (let y = 0, to = 0, from = 0; y < height; y++) {
    to++; // filter 0
    for (let x = 0; x < width; x++, from += 4) {
      rows[to++] = data[from];
      rows[to++] = data[from + 1];
      rows[to++] = data[from + 2];
    }
  }
  const packed = new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate"));
  const head = new Uint8Array(13);
  const view = new DataView(head.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  head.set([8, 2, 0, 0, 0], 8);
  const chunk = (name, body) => {
    const bytes = new Uint8Array(12 + body.length);
    const outer = new DataView(bytes.buffer);
    outer.setUint32(0, body.length);
    bytes.set(encodeText(name), 4);
    bytes.set(body, 8);
    outer.setUint32(8 + body.length, crc32(bytes.subarray(4, 8 + body.length)));
    return bytes;
  };
  const pixels = new Uint8Array(await new Response(packed).arrayBuffer());
  const parts = [
    Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a),
    chunk("IHDR", head),
    chunk("IDAT", pixels),
    chunk("IEND", new Uint8Array()),
  ];
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

const dataUri = (bytes, type) => `data:${type};base64,${toBase64(bytes)}`;

// The picture inside a data URI: {type, bytes}; null for any other text.
function ofDataUri(text) {
  const found = typeof text === "string" && /^data:(image\/[\w.+-]+);base64,([A-Za-z0-9+/=]+)$/.exec(text);
  return found ? { type: found[1], bytes: fromBase64(found[2]) } : null;
}

// {count, height, width} of an array that may be grey pictures: its last two sides; null for any other.
function asPictures(shape) {
  if (!shape || shape.length < 2 || shape.length > 4) return null;
  const [height, width] = shape.slice(-2);
  const count = shape.slice(0, -2).reduce((product, side) => product * side, 1);
  if (Math.min(height, width) < 4 || Math.max(height, width) > 1024 || count > 64) return null;
  return Math.max(height, width) / Math.min(height, width) <= 4 ? { count, height, width } : null;
}

async function greyPictures(values, pictures) {
  const { count, height, width } = pictures;
  const low = values.reduce((least, value) => Math.min(least, value), Infinity);
  const high = values.reduce((most, value) => Math.max(most, value), -Infinity);
  const images = [];
  for (let number = 0; number < Math.min(count, 16); number++) {
    const image = new ImageData(width, height);
    for (let place = 0; place < height * width; place++) {
      const grey = Math.round((255 * (values[number * height * width + place] - low)) / (high - low || 1));
      image.data.set([grey, grey, grey, 255], 4 * place);
    }
    const uri = dataUri(await pngOf(image), "image/png");
    images.push(element("img", { src: uri, alt: `Picture ${number + 1} of ${count}, ${width} by ${height}` }));
  }
  return element("div", { class: "pictures" }, ...images);
}
