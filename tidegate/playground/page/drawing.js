// The drawing board. Strokes, white on black, become an array like the example's; a label map is painted in its colours.

const BOARD = 256; // pixels of a side where strokes are drawn

class Board {
  constructor(canvas, paletteBox, brush) {
    this.canvas = canvas;
    this.paletteBox = paletteBox;
    this.brush = brush;
    this.context = canvas.getContext("2d", { willReadFrequently: true });
    this.cursor = null;
    this.strokes(8, 8);
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", () => (this.last = null));
    canvas.addEventListener("pointercancel", () => (this.last = null));
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => this.show());
  }

  // For arrays of grey pictures: `frame` is where the ink of the example's own pictures lies.
  strokes(height, width, frame = null) {
    this.kind = "strokes";
    this.size = { height, width };
    this.frame = frame ?? { height, width };
    this.reset(BOARD, BOARD, "#000000");
    this.colour = "#ffffff";
    this.paletteBox.hidden = true;
    this.brush.value = 18;
  }

  // For a label map, which begins as the example's.
  map(image, colours, names) {
    this.kind = "map";
    this.reset(image.width, image.height, colours[0]);
    this.ground = colours[0];
    this.pixels.data.set(image.data);
    this.colour = colours[0];
    this.brush.value = 8;
    this.choices(colours, names);
    this.show();
  }

  reset(width, height, ground) {
    this.canvas.width = width;
    this.canvas.height = height;
    this.ground = ground;
    this.pixels = new ImageData(width, height);
    this.clear();
    this.changed = false;
    this.cursor = { x: Math.floor(width / 2), y: Math.floor(height / 2) };
  }

  clear() {
    const rgb = this.rgb(this.ground);
    for (let at = 0; at < this.pixels.data.length; at += 4) this.pixels.data.set([...rgb, 255], at);
    this.changed = true;
    this.show();
  }

  choices(colours, names) {
    const named = Object.fromEntries(Object.entries(names).map(([name, colour]) => [colour, name]));
    const all = [...new Set([...Object.values(names), ...colours])];
    this.paletteBox.replaceChildren(
      ...all.map((colour, place) => {
        const input = element("input", { type: "radio", name: "colour", value: colour });
        input.checked = place === 0;
        input.addEventListener("change", () => (this.colour = colour));
        const patch = drawn("svg", { viewBox: "0 0 8 8", "aria-hidden": "true" }, drawn("rect", { width: 8, height: 8, fill: colour }));
        return element("label", {}, input, patch, named[colour] ?? colour);
      }),
    );
    this.colour = all[0];
    this.paletteBox.hidden = false;
  }

  rgb(colour) {
    return [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  }

  // A disc, without soft edges: a label map may hold no colour that is none of its own.
  dot(x, y) {
    const { width, height, data } = this.pixels;
    const radius = Math.max(0.6, (Number(this.brush.value) / 200) * Math.min(width, height));
    const rgb = this.rgb(this.colour);
    for (let row = Math.max(0, Math.ceil(y - radius)); row <= Math.min(height - 1, y + radius); row++) {
      for (let column = Math.max(0, Math.ceil(x - radius)); column <= Math.min(width - 1, x + radius); column++) {
        if ((row - y) ** 2 + (column - x) ** 2 <= radius ** 2) data.set([...rgb, 255], 4 * (row * width + column));
      }
    }
    this.changed = true;
  }

  line(from, to) {
    const steps = Math.max(1, Math.ceil(Math.hypot(to.x - from.x, to.y - from.y)));
    for (let step = 0; step <= steps; step++) {
      this.dot(from.x + ((to.x - from.x) * step) / steps, from.y + ((to.y - from.y) * step) / steps);
    }
    this.show();
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return { x: ((event.clientX - box.left) / box.width) * this.canvas.width, y: ((event.clientY - box.top) / box.height) * this.canvas.height };
  }

  down(event) {
    if (event.button !== 0) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.last = this.cursor = this.place(event);
    this.line(this.last, this.last);
  }

  move(event) {
    if (!this.last) return;
    const here = this.place(event);
    this.line(this.last, here);
    this.last = this.cursor = here;
  }

  key(event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const step = steps[event.key];
    if (!step && event.key !== " ") return;
    event.preventDefault();
    const { width, height } = this.canvas;
    const length = Math.max(1, Math.round(Math.min(width, height) / 32));
    const [x, y] = step ?? [0, 0];
    const here = {
      x: Math.min(width - 1, Math.max(0, this.cursor.x + x * length)),
      y: Math.min(height - 1, Math.max(0, this.cursor.y + y * length)),
    };
    if (!step || event.shiftKey) this.line(this.cursor, here);
    this.cursor = here;
    this.show(true);
  }

  show(cursor = false) {
    this.context.putImageData(this.pixels, 0, 0);
    if (!cursor) return;
    const size = Math.max(2, this.canvas.width / 24);
    this.context.lineWidth = Math.max(1, this.canvas.width / 128);
    this.context.strokeStyle = "#ff3b30";
    this.context.strokeRect(this.cursor.x - size / 2, this.cursor.y - size / 2, size, size);
  }

  // The strokes at `size`, values 0 to 1: cut out, scaled to the height of the frame, put into the middle, averaged.
  shrunk() {
    const { width, height, data } = this.pixels;
    let [left, top, right, bottom] = [width, height, -1, -1];
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        if (!data[4 * (y * width + x)]) continue;
        [left, right] = [Math.min(left, x), Math.max(right, x)];
        [top, bottom] = [Math.min(top, y), Math.max(bottom, y)];
      }
    }
    const values = new Array(this.size.height * this.size.width).fill(0);
    if (right < 0) return values;
    const scale = Math.max((bottom - top + 1) / this.frame.height, (right - left + 1) / this.frame.width);
    const [middleX, middleY, fine] = [(left + right + 1) / 2, (top + bottom + 1) / 2, 16];
    for (let row = 0; row < this.size.height; row++) {
      for (let column = 0; column < this.size.width; column++) {
        let ink = 0;
        for (let point = 0; point < fine * fine; point++) {
          const x = Math.floor(middleX + (column + ((point % fine) + 0.5) / fine - this.size.width / 2) * scale);
          const y = Math.floor(middleY + (row + (Math.floor(point / fine) + 0.5) / fine - this.size.height / 2) * scale);
          if (x >= 0 && y >= 0 && x < width && y < height) ink += data[4 * (y * width + x)] / 255;
        }
        values[row * this.size.width + column] = ink / (fine * fine);
      }
    }
    return values;
  }

  get image() {
    return this.pixels;
  }
}

// How large the ink of pictures is on average: {height, width}.
function inkFrame(values, { count, height, width }) {
  const [low, high] = [values.reduce((a, b) => Math.min(a, b), Infinity), values.reduce((a, b) => Math.max(a, b), -Infinity)];
  let [heights, widths] = [0, 0];
  for (let number = 0; number < count; number++) {
    const rows = [];
    const columns = [];
    for (let place = 0; place < height * width; place++) {
      if (values[number * height * width + place] <= low + 0.25 * (high - low)) continue;
      rows.push(Math.floor(place / width));
      columns.push(place % width);
    }
    heights += rows.length ? Math.max(...rows) - Math.min(...rows) + 1 : height;
    widths += columns.length ? Math.max(...columns) - Math.min(...columns) + 1 : width;
  }
  // The width of what is drawn is its own: a 1 is narrow.
  return { height: heights / count, width: Math.max(widths / count, width * 0.75) };
}
