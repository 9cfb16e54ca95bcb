// What the server says of itself, once a second: the queue, batches and workers; and the latency seen from here.

const LAST = 60;

class Latency {
  constructor() {
    this.seen = [];
  }

  add(ms, good) {
    this.seen = [...this.seen, { ms, good }].slice(-LAST);
    const sorted = this.seen.map((each) => each.ms).sort((one, other) => one - other);
    const share = (part) => sorted[Math.min(sorted.length - 1, Math.ceil(part * sorted.length) - 1)];
    const [p50, p95] = [share(0.5), share(0.95)];
    const words = `Last ${this.seen.length === 1 ? "request" : `${this.seen.length} requests`}: p50 ${timeWords(p50)}, p95 ${timeWords(p95)}`;
    byId("latency-words").textContent = words;
    this.draw(p50, p95, words);
  }

  draw(p50, p95, words) {
    const top = Math.max(...this.seen.map((each) => each.ms)) * 1.15;
    const x = (place) => (this.seen.length === 1 ? 150 : 6 + (288 * place) / (this.seen.length - 1));
    const y = (ms) => 76 - (70 * ms) / top;
    const marks = [["p50", p50], ["p95", p95]].flatMap(([name, ms]) => [
      drawn("line", { class: "mark", x1: 0, x2: 300, y1: y(ms), y2: y(ms) }),
      drawn("text", { class: "mark-text", x: name === "p50" ? 2 : 278, y: Math.max(9, y(ms) - 2) }, name),
    ]);
    const points = this.seen.map(({ ms }, place) => `${x(place)},${y(ms)}`).join(" ");
    const dots = this.seen.map(({ ms, good }, place) =>
      drawn("circle", { class: good ? "dot" : "dot bad", cx: x(place), cy: y(ms), r: 2.5 }, drawn("title", {}, timeWords(ms))));
    byId("latency").replaceChildren(...marks, drawn("polyline", { class: "line", points }), ...dots);
    byId("latency").setAttribute("aria-label", words);
  }
}

// Prometheus's text: [{name, labels, value}].
function readMetrics(text) {
  const found = [];
  for (const line of text.split("\n")) {
    const [, name, inside, value] = /^([\w:]+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
    if (!name) continue;
    const labels = {};
    for (const [, key, said] of (inside ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) labels[key] = said.replace(/\\(.)/g, (_, c) => (c === "n" ? "\n" : c));
    found.push({ name, labels, value: Number(value) });
  }
  return found;
}

class Gauges {
  constructor() {
    this.of(null);
  }

  // Begins anew: another endpoint or model has been chosen.
  of(key) {
    this.key = key;
    this.waiting = [];
    this.known = new Map(); // workers by instance and process id: {fresh, gone, bytes}
    this.most = 0;
    this.restarts = null;
    for (const id of ["workers", "events"]) byId(id).replaceChildren();
    byId("workers-words").textContent = "";
    byId("batches").textContent = "No batch yet.";
    byId("queue-words").textContent = "Not known yet.";
  }

  // `instances` is [{name, text}]: what each server says at /metrics, null where it does not; `model` is one of several.
  take(instances, model) {
    const now = Date.now();
    const counted = { waiting: 0, inFlight: 0, workers: 0, restarts: 0 };
    const batches = new Map();
    const seen = new Set();
    for (const { name, text } of instances) {
      if (text === null) continue;
      for (const { name: metric, labels, value } of readMetrics(text)) {
        if (model !== null && labels.model !== model) continue;
        if (metric === "tidegate_waiting") counted.waiting += value;
        if (metric === "tidegate_in_flight") counted.inFlight += value;
        if (metric === "tidegate_workers") counted.workers += value;
        if (metric === "tidegate_worker_restarts_total") counted.restarts += value;
        if (metric === "tidegate_batch_size_bucket") batches.set(labels.le, (batches.get(labels.le) ?? 0) + value);
        if (metric === "tidegate_resident_bytes" && labels.model && labels.pid) {
          const key = `${name} ${labels.pid}`.trim();
          seen.add(key);
          if (!this.known.has(key) || this.known.get(key).gone) {
            if (this.most) this.say(`Worker ${key} has loaded the model and takes requests.`);
            this.known.set(key, { fresh: this.most > 0, gone: 0, bytes: value });
          } else this.known.get(key).bytes = value;
        }
      }
    }
    for (const [key, worker] of this.known) {
      if (seen.has(key) || worker.gone) continue;
      worker.gone = now;
      this.say(`Worker ${key} has ended. The server starts another one.`);
    }
    this.showQueue(counted);
    this.showBatches(batches);
    this.showWorkers(counted, instances);
  }

  say(sentence) {
    byId("events").prepend(element("li", {}, `${new Date().toLocaleTimeString()} ${sentence}`));
    while (byId("events").children.length > 8) byId("events").lastChild.remove();
  }

  showQueue({ waiting, inFlight }) {
    this.waiting = [...this.waiting, waiting].slice(-LAST);
    byId("queue-words").textContent = `${waiting} waiting, ${inFlight} with a worker`;
    const top = Math.max(1, ...this.waiting);
    const points = this.waiting.map((value, place) => `${(300 * place) / (LAST - 1)},${38 - (34 * value) / top}`).join(" ");
    byId("queue").replaceChildren(drawn("polyline", { class: "line", points }));
    byId("queue").setAttribute("aria-label", `Waiting requests in the last minute: now ${waiting}, at most ${Math.max(...this.waiting)}`);
  }

  showBatches(cumulative) {
    let before = 0;
    const sorted = [...cumulative].sort((one, other) => (one[0] === "+Inf") - (other[0] === "+Inf") || one[0] - other[0]);
    const sizes = sorted.map(([limit, total], place) => {
      const least = place ? Number(sorted[place - 1][0]) + 1 : 1;
      const most = limit === "+Inf" ? "more" : Number(limit);
      const count = total - before;
      before = total;
      return { size: most === "more" ? `over ${least - 1}` : least >= most ? `${most}` : `${least} to ${most}`, count };
    });
    const all = sizes.filter(({ count }) => count > 0);
    if (!all.length) return;
    const top = Math.max(...all.map(({ count }) => count));
    const rows = all.flatMap(({ size, count }) => [
      element("span", {}, size),
      drawn("svg", { viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" },
        drawn("rect", { class: "track", width: 100, height: 8 }), drawn("rect", { class: "fill", width: (100 * count) / top, height: 8 })),
      element("span", {}, `${count}×`),
    ]);
    byId("batches").replaceChildren(element("p", { class: "note" }, "Requests that shared a call, and how often"), element("div", { class: "bars" }, ...rows));
  }

  showWorkers({ workers, restarts }, instances) {
    this.most = Math.max(this.most, workers);
    const silent = instances.filter(({ text }) => text === null);
    const missing = this.most - workers;
    let words = `${workers} ready`;
    if (missing > 0) words += `, ${missing} being replaced`;
    if (restarts) words += `, ${restarts} replaced since the start`;
    if (!instances.length) words = "No server runs.";
    for (const { name, error } of silent) words += `${words ? "; " : ""}${name || "the server"}: ${error ?? "no metrics"}`;
    if (byId("workers-words").textContent !== words) byId("workers-words").textContent = words;
    const gone = [...this.known].filter(([, worker]) => worker.gone);
    for (const [key] of gone.slice(0, -3)) this.known.delete(key);
    const rows = [...this.known].map(([key, worker]) => {
      const state = worker.gone ? "ended" : worker.fresh ? "ready (new)" : "ready";
      return [key, state, worker.gone ? "" : sizeWords(worker.bytes)];
    });
    if (rows.length) byId("workers").replaceChildren(table(["process", "state", "memory"], rows, "Workers"));
  }
}
