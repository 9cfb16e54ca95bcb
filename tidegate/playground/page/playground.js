// The page itself: what is chosen, what is sent, what is shown.

const CLOUD = FACTS.kind === "cloud";
const latency = new Latency();
const gauges = new Gauges();
const board = new Board(byId("canvas"), byId("palette"), byId("brush"));
const state = {
  targets: [], way: null, about: null, example: null, drawing: null, file: null, chat: [], sending: null, sent: null,
  types: {}, proposed: "", lost: "",
};

function say(words, kind = "") {
  byId("outcome").textContent = words;
  byId("outcome").className = kind;
}

// Says why nothing is sent, and where to mend it. The answer before is taken away: it is none to this.
function refuse(words, where) {
  say(words, "bad");
  byId("shown").replaceChildren();
  byId(where).focus();
}

// --- what there is to ask

// Lists choices; what was chosen stays chosen, also where it is gone. `choices` is [[value, words]].
function list(select, choices, chosen, goneWords = (words) => `${words} (gone)`) {
  const before = [...select.options].find(({ value }) => value === chosen);
  const options = choices.map(([value, words]) => element("option", { value }, words));
  const isGone = before && !choices.some(([value]) => value === chosen);
  const words = before?.dataset.words ?? before?.textContent;
  select.replaceChildren(...(isGone ? [element("option", { value: chosen, "data-words": words }, goneWords(words))] : []), ...options);
  if (before) select.value = chosen;
}

async function listTargets() {
  const { targets } = await ask("/playground/targets");
  const before = byId("target").value;
  const known = JSON.stringify(targets);
  if (known === state.known) return;
  state.known = known;
  state.targets = targets;
  const shownName = (name) => (!CLOUD && targets.length === 1 && state.about?.name) || name;
  list(byId("target"), targets.map(({ name, status }) => [name, status && status !== "InService" ? `${name} (${status})` : shownName(name)]), before, () => `${before} (gone)`);
  // At first what the address names, else what can be asked, where anything can.
  const wanted = new URLSearchParams(location.search);
  const first = targets.find(({ name }) => name === wanted.get("model"));
  if (!before) byId("target").value = (first ?? targets.find(({ ways }) => ways.length) ?? targets[0])?.name ?? "";
  if (!targets.length && !before) {
    byId("send").disabled = true;
    byId("about").textContent = CLOUD ? "There is no endpoint yet. Deploy or create one: it is listed here by itself." : "The server has no model yet.";
    byId("request").removeAttribute("aria-busy");
    return;
  }
  listWays(before ? byId("way").value : "");
  if (!before && first && wanted.has("version")) {
    const version = first.ways.find(({ about }) => new URLSearchParams(about.split("?")[1]).get("version") === wanted.get("version"));
    if (version) byId("way").value = version.about;
  }
  await chooseWay();
}

function listWays(chosen) {
  const ways = chosenTarget()?.ways ?? [];
  list(byId("way"), ways.map(({ label, about }) => [about, label]), chosen, (words) => (ways.length ? `${words} (gone)` : words));
}

// Somebody has chosen a target, or a way of it.
async function chooseByHand(select) {
  for (const gone of byId(select).querySelectorAll("option[data-words]:not(:checked)")) gone.remove();
  if (select === "target") listWays("");
  await chooseWay(true);
}

const chosenTarget = () => state.targets.find(({ name }) => name === byId("target").value);

// Asks what the chosen way proposes. What was typed is replaced only where somebody has chosen another one.
async function chooseWay(byHand = false) {
  const target = chosenTarget();
  const way = target?.ways.find(({ about }) => about === byId("way").value) ?? null;
  const key = JSON.stringify([byId("target").value, way?.about ?? target?.reason ?? "gone"]);
  [state.way, state.endpoint] = [way, target?.name ?? ""];
  if (key === state.key) return;
  state.key = key;
  if (!way && state.about && !byHand) {
    // The choice is lost: nothing else is chosen instead, and the request stays.
    const [name, label] = [byId("target").value, byId("way").selectedOptions[0]?.dataset.words];
    const lost = target?.ways.length && label ? `${label} of ${name}` : name;
    state.lost = !target || target.ways.length
      ? `${lost} is gone. Choose another one.`
      : `${name} cannot be asked now. ${target.reason}`;
    byId("about").textContent = state.lost;
    byId("send").disabled = true;
    byId("request").removeAttribute("aria-busy");
    gauges.of(key);
    return;
  }
  // What was written for a choice that is lost is kept for the next.
  const mayKeep = Boolean(state.about) && (!byHand || state.lost !== "");
  state.lost = "";
  gauges.of(key);
  byId("request").setAttribute("aria-busy", "true");
  let about = { example: null, reason: target?.reason || "Nothing of it can be asked now.", labels: [], colours: {}, chat: false };
  try {
    if (way) about = await ask(way.about);
  } catch (error) {
    about.reason = error.message;
  }
  if (state.key !== key) return; // another one has been chosen meanwhile
  await propose(about, mayKeep && byId("text").value !== state.proposed);
  byId("send").disabled = !state.way || state.sending !== null;
  byId("request").removeAttribute("aria-busy");
}

// --- the first request

// `keep` leaves the text that somebody has written, and its types.
async function propose(about, keep) {
  state.about = about;
  state.chat = [];
  showChat();
  state.example = about.example ? { ...about.example, bytes: fromBase64(about.example.body) } : null;
  state.drawing = state.example ? await drawingOf(state.example) : null;
  byId("stream-row").hidden = !state.way?.stream;
  byId("stream").checked = false;
  for (const [mode, there] of Object.entries({ example: state.example && textOf(state.example.bytes) === null, draw: state.drawing, chat: state.way?.chat && about.chat })) {
    document.querySelector(`input[name=input][value=${mode}]`).closest("label").hidden = !there;
  }
  const text = state.example ? textOf(state.example.bytes) : null;
  const array = state.example && text === null ? readNpy(state.example.bytes) : null;
  // Bytes cannot be typed: of an array its numbers can, as JSON, and of others nothing.
  const proposed = text ?? (array && jsonOfArray(array)) ?? "";
  const own = state.example?.content_type ?? "application/json";
  const wasText = keep && chosenInput() === "text";
  state.types = { example: own, draw: own, file: state.file ? state.types.file : "application/octet-stream", text: keep ? state.types.text : text === null ? "application/json" : own };
  if (!keep) {
    byId("accept").value = state.example?.accept ?? "application/json";
    byId("text").value = proposed;
    state.proposed = byId("text").value;
  }
  if (!CLOUD && about.name && state.targets.length === 1) byId("target").selectedOptions[0].textContent = about.name;
  const shown = state.example && text === null ? await shownAnswer(state.example.content_type, state.example.bytes, about.labels) : null;
  byId("input-example").replaceChildren(...(shown ? [shown] : []));
  if (state.drawing?.kind === "map") board.map(state.drawing.image, state.drawing.palette, about.colours);
  else if (state.drawing) board.strokes(state.drawing.pictures.height, state.drawing.pictures.width, inkFrame(state.drawing.array.values, state.drawing.pictures));
  byId("canvas").setAttribute("aria-label", state.drawing?.kind === "map" ? "Label map" : "Drawing, white on black");
  chooseInput(wasText ? "text" : state.drawing?.kind === "map" ? "draw" : shown ? "example" : !state.example && about.chat && state.way?.chat ? "chat" : "text");
}

// What can be drawn instead of the example, and how a drawing becomes a request; null where it is no picture.
async function drawingOf({ content_type: type, bytes }) {
  const media = mediaType(type);
  try {
    const array = readNpy(bytes);
    if (array) {
      const pictures = asPictures(array.shape);
      return pictures && { kind: "strokes", array, pictures, body: (values) => writeNpy({ ...array, shape: drawnShape(array.shape), values }) };
    }
    if (media.startsWith("image/")) return await mapOf(bytes, media, (png) => png);
    if (media !== "application/json") return null;
    const text = decodeText(bytes);
    if (changesNumbers(text)) return null; // it is written anew with the drawing
    const value = JSON.parse(text);
    const entry = isObject(value) && Object.entries(value).find(([, each]) => ofDataUri(each));
    if (entry) {
      const { type: inner, bytes: file } = ofDataUri(entry[1]);
      return await mapOf(file, inner, (png) => encodeText(JSON.stringify({ ...value, [entry[0]]: dataUri(png, "image/png") })));
    }
    const [holder, key] = isObject(value) ? [value, Object.keys(value).find((name) => asPictures(shapeOf(value[name])))] : [{ it: value }, "it"];
    const shape = key ? shapeOf(holder[key]) : null;
    const pictures = asPictures(shape);
    if (!pictures) return null;
    const whole = (values) => (isObject(value) ? { ...value, [key]: nested(values, drawnShape(shape)) } : nested(values, drawnShape(shape)));
    return { kind: "strokes", array: { values: holder[key].flat(Infinity) }, pictures, body: (values) => encodeText(JSON.stringify(whole(values))) };
  } catch {
    return null;
  }
}

// One picture in the place of the example's several.
const drawnShape = (shape) => [...shape.slice(0, -2).map(() => 1), ...shape.slice(-2)];

async function mapOf(bytes, media, body) {
  if (media !== "image/png") return null; // other files change colours
  const image = await pixelsOf(bytes, media);
  const palette = paletteOf(image);
  return palette && palette.length > 1 ? { kind: "map", image, palette, body } : null;
}

// --- what is sent

const chosenInput = () => document.querySelector("input[name=input]:checked")?.value ?? "text";

function chooseInput(mode) {
  document.querySelector(`input[name=input][value=${mode}]`).checked = true;
  for (const each of ["example", "text", "draw", "file", "chat"]) byId(`input-${each}`).hidden = each !== mode;
  byId("types").hidden = mode === "chat";
  byId("stream-row").hidden = mode === "chat" || !state.way?.stream;
  byId("content-type").value = state.types[mode] ?? "";
  sayExample(mode);
}

// What the model was saved with, and what can be done with it in this input.
function sayExample(mode) {
  if (!state.about) return;
  if (state.lost || !state.example) {
    byId("about").textContent = state.lost || state.about.reason;
    return;
  }
  const isBinary = textOf(state.example.bytes) === null;
  const doable = {
    example: state.proposed ? " Send it, or change it as JSON under Text." : " Send it.",
    text: !state.proposed ? "" : isBinary ? " Here it is as JSON: send it, or change it." : " Send it, or change it.",
    draw: " Send it, or draw another one.",
  };
  const what = `The example that the model was saved with: ${state.example.content_type}, ${sizeWords(state.example.bytes.length)}.`;
  byId("about").textContent = what + (doable[mode] ?? "");
}

async function bodyOf(mode) {
  if (mode === "text") return encodeText(byId("text").value);
  if (mode === "example") return state.example.bytes;
  if (mode === "file") return state.file;
  const { kind, body, array } = state.drawing;
  if (kind === "map") return board.changed ? body(await pngOf(board.image)) : state.example.bytes;
  const [low, high] = [array.values.reduce((a, b) => Math.min(a, b), Infinity), array.values.reduce((a, b) => Math.max(a, b), -Infinity)];
  return body(board.shrunk().map((ink) => low + ink * (high - low)));
}

async function requestOf(mode) {
  if (mode === "chat") {
    const messages = [...state.chat, { role: "user", content: byId("chat-text").value }];
    const body = encodeText(JSON.stringify({ model: state.way.model ?? state.endpoint, messages, stream: true }));
    return { path: state.way.chat, awsPath: state.way.aws?.chat, headers: { ...state.way.headers, "content-type": "application/json", accept: "text/event-stream" }, body, chat: true };
  }
  const body = await bodyOf(mode);
  const streams = byId("stream").checked && Boolean(state.way.stream);
  const types = state.way.later ? ["x-amzn-sagemaker-content-type", "x-amzn-sagemaker-accept"] : ["content-type", "accept"];
  const headers = { [types[0]]: byId("content-type").value.trim(), [types[1]]: byId("accept").value.trim() };
  for (const name of Object.keys(headers)) if (!headers[name]) delete headers[name];
  return {
    path: streams ? state.way.stream : state.way.invoke, awsPath: state.way.aws?.[streams ? "stream" : "invoke"],
    headers: { ...headers, ...state.way.headers }, body, streams, later: state.way.later,
  };
}

async function send() {
  if (state.sending || !state.way) return;
  const mode = chosenInput();
  if (mode === "chat" && !byId("chat-text").value.trim()) return refuse("Write a message first.", "chat-text");
  if (mode === "file" && !state.file) return refuse("Choose a file first.", "file");
  if (mode === "file" && !state.file.length) return refuse("The file is empty: choose another one.", "file");
  if (mode === "text" && !byId("text").value) return refuse("Write a body first: an empty one is not sent.", "text");
  const stopping = new AbortController();
  state.sending = stopping;
  [byId("send").disabled, byId("stop").disabled] = [true, false];
  say("Sending …");
  byId("shown").setAttribute("aria-busy", "true");
  byId("shown").replaceChildren();
  const request = await requestOf(mode);
  const live = request.chat ? addToChat(byId("chat-text").value) : element("p", { class: "told" });
  let reader = null;
  const onPart = (bytes, type) => {
    const media = mediaType(type);
    if (!reader && (media.startsWith("text/") || media.includes("json"))) reader = new StreamReader(type);
    if (!reader) return;
    const text = reader.take(bytes);
    if (reader.isFull) return;
    if (!request.chat && !live.isConnected) byId("shown").replaceChildren(live);
    live.textContent = text;
    if (request.chat) byId("chat-log").scrollTop = byId("chat-log").scrollHeight;
  };
  try {
    const onWait = (output, ms) => say(`Accepted ${timeWords(ms)} ago; it waits, or is being answered. Its answer becomes ${output}.`);
    const done = request.later
      ? await exchangeLater({ ...request, onWait, signal: stopping.signal })
      : await exchange({ ...request, onPart, signal: stopping.signal });
    await show(done, request, reader, live);
  } catch (error) {
    const stopped = error.name === "AbortError";
    const words = request.later ? "You stopped waiting. What the endpoint has accepted, it still answers." : "You stopped it.";
    say(stopped ? words : `There was no answer: ${error.message}. Is the ${CLOUD ? "cloud" : "server"} still up?`, "bad");
    if (request.chat) dropFromChat();
  } finally {
    state.sending = null;
    [byId("send").disabled, byId("stop").disabled] = [!state.way, true];
    byId("shown").removeAttribute("aria-busy");
  }
}

async function show(done, request, reader, live) {
  const good = done.status < 300 && !done.failure && !reader?.failure && done.object?.kind !== "failure";
  latency.add(done.ms, good);
  state.sent = { ...request, endpoint: CLOUD ? state.endpoint : "YOUR-ENDPOINT" };
  byId("raw-request").textContent = rawRequest(done.request);
  byId("raw-response").textContent = rawResponse(done);
  byId("copy-text").textContent = "";
  byId("copied").textContent = "";
  if (done.status >= 300) {
    const original = FACTS.kind === "cloud" ? /"OriginalStatusCode":\s*(\d{3})/.exec(textOf(done.bytes, MOST_BYTES) ?? "")?.[1] : null;
    say(`${done.status} ${done.reason}${original ? `, the container's ${original}` : ""}: ${sentenceOf(done.bytes)}`, "bad");
    if (request.chat) dropFromChat();
    return;
  }
  if (done.object) {
    const { kind, location: object } = done.object;
    const where = object ? ` The object is ${object}.` : "";
    if (kind === "failure") say(`It failed after ${timeWords(done.ms)}: ${sentenceOf(done.bytes)}${where}`, "bad");
    else say(`Answered after ${timeWords(done.ms)}, ${sizeWords(done.bytes.length)}.${where}`, "good");
    if (kind === "answer") byId("shown").replaceChildren(await shownAnswer(done.type, done.bytes, state.about.labels));
    return;
  }
  const first = done.parts > 1 && done.firstMs !== null ? `, the first part after ${timeWords(done.firstMs)}` : "";
  const failure = done.failure || reader?.failure;
  say(`${done.status} ${done.reason} in ${timeWords(done.ms)}, ${sizeWords(done.bytes.length)}${first}${failure ? `; broken off: ${failure}` : ""}`, failure ? "bad" : "good");
  if (request.chat) {
    const said = mediaType(done.type) === "application/json" ? JSON.parse(decodeText(done.bytes)).choices?.[0]?.message?.content ?? "" : reader?.end() ?? "";
    live.textContent = said.slice(0, MOST_TEXT);
    state.chat = [...state.chat, { role: "user", content: byId("chat-text").value }, { role: "assistant", content: said }];
    byId("chat-text").value = "";
    return;
  }
  const streamed = reader && (done.parts > 1 || request.streams) && (reader.lines || reader.media === "text/plain");
  if (streamed && !reader.isFull) live.textContent = reader.end().slice(0, MOST_TEXT);
  else byId("shown").replaceChildren(await shownAnswer(done.type, done.bytes, state.about.labels));
}

// --- the conversation

const chatLine = (who, text) => element("p", {}, element("b", {}, who), element("span", {}, text));

function showChat() {
  byId("chat-log").replaceChildren(...state.chat.map(({ role, content }) => chatLine(role === "user" ? "You" : "Model", content)));
}

function addToChat(question) {
  const answer = chatLine("Model", "");
  byId("chat-log").append(chatLine("You", question), answer);
  return answer.lastChild;
}

function dropFromChat() {
  showChat();
}

// --- files

async function takeFile(file) {
  if (!file) return;
  state.file = new Uint8Array(await file.arrayBuffer());
  const endings = { npy: "application/x-npy", csv: "text/csv", json: "application/json", jsonl: "application/jsonlines", txt: "text/plain" };
  const type = endings[file.name.split(".").pop().toLowerCase()] ?? (file.type || "application/octet-stream");
  state.types.file = type;
  byId("content-type").value = type;
  byId("file-shown").replaceChildren(
    element("p", { class: "note" }, `${file.name}, ${sizeWords(state.file.length)}`),
    ...(type.startsWith("image/") ? [element("img", { src: dataUri(state.file, type), alt: `The chosen file ${file.name}` })] : []),
  );
}

// --- the server

async function lookAtServer() {
  if (!state.way || document.hidden) return;
  const key = state.key;
  try {
    let instances;
    if (CLOUD) ({ instances } = await ask(state.way.metrics));
    else instances = [{ name: "", text: await (await fetch("/metrics", { cache: "no-store" })).text() }];
    if (state.key === key) gauges.take(instances, CLOUD ? null : state.way.model);
  } catch (error) {
    byId("workers-words").textContent = `The ${CLOUD ? "cloud" : "server"} does not answer: ${error.message}`;
  }
}

async function forever(work, pauseMs) {
  for (;;) {
    await work().catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}

// --- wiring

byId("place").textContent = CLOUD ? `Local cloud, ${FACTS.region}` : "Server on this machine";
byId("pages").hidden = CLOUD; // of a server: what it answers, at all its paths
byId("target-word").textContent = CLOUD ? "Endpoint" : "Model";
byId("way-word").textContent = CLOUD ? "Variant, model or component" : "Version";
byId("target").addEventListener("change", () => chooseByHand("target"));
byId("way").addEventListener("change", () => chooseByHand("way"));
byId("content-type").addEventListener("input", (event) => {
  state.types[chosenInput()] = event.target.value;
});
byId("tabs").addEventListener("change", (event) => chooseInput(event.target.value));
byId("send").addEventListener("click", send);
byId("stop").addEventListener("click", () => state.sending?.abort());
byId("clear").addEventListener("click", () => board.clear());
byId("chat-new").addEventListener("click", () => {
  state.chat = [];
  showChat();
});
byId("file").addEventListener("change", (event) => takeFile(event.target.files[0]));
for (const name of ["dragover", "dragleave", "drop"]) {
  byId("drop").addEventListener(name, (event) => {
    event.preventDefault();
    byId("drop").classList.toggle("over", name === "dragover");
    if (name === "drop") takeFile(event.dataTransfer.files[0]);
  });
}
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) send();
});
for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    if (!state.sent) {
      byId("copied").textContent = "Send a request first.";
      return;
    }
    const text = COPIES[button.dataset.copy](state.sent);
    byId("copy-text").textContent = text;
    try {
      await navigator.clipboard.writeText(text);
      byId("copied").textContent = "Copied.";
    } catch {
      byId("copied").textContent = "Copy it from below.";
    }
  });
}
listTargets().catch((error) => say(error.message, "bad"));
forever(listTargets, 3000);
forever(lookAtServer, 1000);
