// One request and its answer: with the time it took, what was sent and received, and the parts of a stream as they come.

const FACTS = JSON.parse(byId("facts").textContent);
const HIDDEN = "x-tidegate-playground";

const withToken = (headers) => (FACTS.token ? { ...headers, [HIDDEN]: FACTS.token } : headers);

async function ask(path) {
  const response = await fetch(path, { headers: withToken({}), cache: "no-store" });
  const bytes = new Uint8Array(await response.arrayBuffer());
  if (!response.ok) throw new Error(`${response.status}: ${sentenceOf(bytes)}`);
  return JSON.parse(decodeText(bytes));
}

// The messages of AWS's event stream (botocore.eventstream reads the same): {headers, payload}, as they are complete.
class EventStream {
  constructor() {
    this.rest = new Uint8Array();
  }

  take(bytes) {
    const all = new Uint8Array(this.rest.length + bytes.length);
    all.set(this.rest);
    all.set(bytes, this.rest.length);
    const messages = [];
    let at = 0;
    for (;;) {
      if (all.length - at < 16) break;
      const view = new DataView(all.buffer, at);
      const [total, head] = [view.getUint32(0), view.getUint32(4)];
      if (all.length - at < total) break;
      messages.push({ headers: this.headers(all.subarray(at + 12, at + 12 + head)), payload: all.subarray(at + 12 + head, at + total - 4) });
      at += total;
    }
    this.rest = all.subarray(at);
    return messages;
  }

  headers(bytes) {
    const found = {};
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let at = 0; at < bytes.length; ) {
      const name = decodeText(bytes.subarray(at + 1, at + 1 + bytes[at]));
      at += 1 + bytes[at];
      if (bytes[at] !== 7) break; // of strings alone is the length known here, and the service sends nothing else
      const length = view.getUint16(at + 1);
      found[name] = decodeText(bytes.subarray(at + 3, at + 3 + length));
      at += 3 + length;
    }
    return found;
  }
}

// Sends a request; `onPart(bytes, type)` gets the body's parts as they come. Resolves to the whole exchange, also where
// the answer is an error; rejects where there is none.
async function exchange({ path, headers, body, onPart, signal }) {
  const began = performance.now();
  const response = await fetch(path, { method: "POST", headers: withToken(headers), body, signal, cache: "no-store" });
  const answered = [...response.headers];
  const events = mediaType(response.headers.get("content-type")) === "application/vnd.amazon.eventstream" ? new EventStream() : null;
  const type = (events && response.headers.get("x-amzn-sagemaker-content-type")) || response.headers.get("content-type") || "";
  const parts = [];
  let [firstMs, failure] = [null, ""];
  const take = (bytes) => {
    firstMs ??= performance.now() - began;
    parts.push(bytes);
    if (response.ok) onPart?.(bytes, type);
  };
  try {
    const reader = response.body?.getReader();
    for (;;) {
      const { done, value } = (await reader?.read()) ?? { done: true };
      if (done) break;
      if (!events) take(value);
      else {
        for (const message of events.take(value)) {
          if (message.headers[":message-type"] === "event") take(message.payload);
          else failure = sentenceOf(message.payload) || message.headers[":error-message"] || "The stream was broken off.";
        }
      }
    }
  } catch (error) {
    failure = error.name === "AbortError" ? "You stopped it." : `The connection broke: ${error.message}`;
  }
  const bytes = new Uint8Array(await new Blob(parts).arrayBuffer());
  return {
    request: { path, headers, body }, status: response.status, reason: response.statusText, headers: answered,
    type, bytes, failure, ms: performance.now() - began, firstMs, parts: parts.length,
  };
}

// A pause that Stop ends.
const pause = (ms, signal) => new Promise((resolve, reject) => {
  const timer = setTimeout(resolve, ms);
  signal.addEventListener("abort", () => {
    clearTimeout(timer);
    reject(new DOMException("stopped", "AbortError"));
  }, { once: true });
});

// An asynchronous request: it is accepted at once, and its answer or failure is an object that is read once it is there.
// Resolves to an exchange with the object's type and bytes, what was `accepted`, and `object`, {kind, location}.
async function exchangeLater({ later, onWait, ...request }) {
  const began = performance.now();
  const accepted = await exchange(request);
  if (accepted.status >= 300) return accepted;
  const named = Object.fromEntries(accepted.headers);
  const [output, failure] = [named["x-amzn-sagemaker-outputlocation"], named["x-amzn-sagemaker-failurelocation"] ?? ""];
  for (;;) {
    onWait(output, performance.now() - began);
    const response = await fetch(`${later}&${new URLSearchParams({ output, failure })}`, { headers: withToken({}), signal: request.signal, cache: "no-store" });
    const bytes = new Uint8Array(await response.arrayBuffer());
    if (!response.ok) throw new Error(`${response.status}: ${sentenceOf(bytes)}`);
    if (response.status !== 202) {
      const kind = response.headers.get("x-tidegate-object");
      const object = { kind, location: kind === "answer" ? output : failure };
      return { ...accepted, accepted, object, bytes, type: response.headers.get("content-type") ?? "", ms: performance.now() - began };
    }
    await pause(500, request.signal);
  }
}

function rawBody(bytes) {
  if (!bytes.length) return "(no body)";
  const text = textOf(bytes, MOST_OF_LARGE);
  if (text === null) return hexOf(bytes);
  return bytes.length > MOST_OF_LARGE ? `${text}\n… ${bytes.length - MOST_OF_LARGE} more bytes` : text;
}

function rawRequest({ path, headers, body }) {
  const lines = [`POST ${path} HTTP/1.1`, `host: ${location.host}`, ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`)];
  return `${lines.join("\n")}\ncontent-length: ${body.length}\n\n${rawBody(body)}`;
}

function rawResponse({ status, reason, headers, bytes, ms, failure, accepted, object }) {
  if (accepted) return `${rawResponse(accepted)}\n\n${object.location || "(no object)"}, after ${timeWords(ms)}:\n\n${rawBody(bytes)}`;
  const lines = [`HTTP/1.1 ${status} ${reason}`, ...headers.map(([name, value]) => `${name}: ${value}`)];
  const end = failure ? `\n\n(${failure})` : "";
  return `${lines.join("\n")}\n\n${rawBody(bytes)}${end}\n\n(${ms.toFixed(1)} ms, ${bytes.length} bytes)`;
}
