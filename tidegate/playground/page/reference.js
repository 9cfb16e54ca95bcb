// The description of the server for people: what /openapi.json says, and nothing else. Text is always text.

const MOST_SHOWN = 65536;
const VERBS = ["get", "post", "put", "patch", "delete"];
let DESCRIPTION = {};

// What a reference within the description means; anything else is itself.
function resolved(value) {
  if (!value?.$ref?.startsWith("#/")) return value ?? {};
  const steps = value.$ref.slice(2).split("/").map((step) => step.replaceAll("~1", "/").replaceAll("~0", "~"));
  return steps.reduce((place, step) => place?.[step], DESCRIPTION) ?? {};
}

// Markdown's paragraphs and code, which is all that the server writes.
function paragraphs(text) {
  return String(text ?? "").split("\n\n").filter(Boolean).map((part) => withCode("p", part));
}

// An element with a text, in which what stands between backticks is code.
function withCode(name, text) {
  return element(name, {}, ...String(text ?? "").split("`").map((piece, place) => (place % 2 ? element("code", {}, piece) : piece)));
}

// --- schemas, in words

function kindWords(schema) {
  if (schema.enum) return `one of ${schema.enum.slice(0, 12).map((each) => JSON.stringify(each)).join(", ")}${schema.enum.length > 12 ? ` and ${schema.enum.length - 12} more` : ""}`;
  if (schema.format === "binary") return "bytes";
  if (schema.anyOf) return [...new Set(schema.anyOf.map((each) => kindWords(resolved(each))))].join(", or ");
  const [least, most] = [schema.minItems, schema.maxItems];
  if (schema.type === "array") {
    const count = least !== undefined && least === most ? `${least} × ` : most !== undefined ? `at most ${most} × ` : "";
    return `list of ${count}${schema.items ? kindWords(resolved(schema.items)) : "values"}`;
  }
  if (schema.type === "object") {
    const names = Object.keys(schema.properties ?? {});
    return names.length ? `object with ${names.slice(0, 12).join(", ")}${names.length > 12 ? ` and ${names.length - 12} more` : ""}` : "object";
  }
  return [schema.type ?? "anything"].flat().join(" or ");
}

// The keys of an object, each with what it is; of several forms, those of the first that has keys.
function keysOf(schema) {
  const forms = [schema, ...(schema.anyOf ?? []).map(resolved), ...(schema.anyOf ?? []).flatMap((each) => resolved(each).anyOf ?? [])];
  return forms.find((each) => each.properties && Object.keys(each.properties).length);
}

// `where` names the operation: every table and listing has a name of its own, which a screen reader says.
function schemaShown(schema, where) {
  const found = resolved(schema);
  const words = kindWords(found);
  const shown = [element("p", {}, `${words[0].toUpperCase()}${words.slice(1)}.${found.description ? ` ${found.description}` : ""}`)];
  const keys = keysOf(found);
  if (!keys) return shown;
  const rows = Object.entries(keys.properties).slice(0, 200).map(([name, value]) => {
    const each = resolved(value);
    return [name, kindWords(each), keys.required?.includes(name) ? "yes" : "", withCode("span", each.description)];
  });
  const left = Object.keys(keys.properties).length - rows.length;
  return [...shown, table(["key", "value", "required", "meaning"], rows, `Keys of ${where}${left > 0 ? `, the first ${rows.length} of ${rows.length + left}` : ""}`)];
}

// --- examples

// The bytes of an example, and their type; null where the description does not hold them.
function bytesOf(example, range) {
  const type = example["x-tidegate-headers"]?.["Content-Type"] ?? range;
  if (example.externalValue) {
    const [, inner, data] = /^data:([^;,]*);base64,(.*)$/s.exec(example.externalValue) ?? [];
    return data === undefined ? null : { type: example["x-tidegate-headers"]?.["Content-Type"] ?? inner, bytes: fromBase64(data) };
  }
  if (!("value" in example)) return null;
  const isText = typeof example.value === "string" && !/[/+]json\b/.test(range);
  return { type, bytes: encodeText(isText ? example.value : JSON.stringify(example.value)) };
}

function exampleShown(example, range, what) {
  const found = bytesOf(example, range);
  const array = found && readNpy(found.bytes);
  const numbers = array && `${dtypeName(array.dtype)}, shape (${array.shape.join(", ")})`;
  const note = element("p", { class: "note" }, [example.summary ?? what, numbers, example.description].filter(Boolean).join(". "));
  if (!found) return [note];
  if (found.type.startsWith("image/") && example.externalValue) {
    return [note, pictureShown(dataUri(found.bytes, mediaType(found.type)), `${what}, a picture`)];
  }
  const text = textOf(found.bytes, MOST_SHOWN) ?? (array && jsonOfArray(array)) ?? hexOf(found.bytes);
  const pretty = typeof example.value === "object" && example.value !== null ? JSON.stringify(example.value, null, 1).replace(/\n\s+(?=-?[\d.])/g, " ").replace(/(?<=[\d.])\n\s+\]/g, "]") : text;
  return [note, element("pre", { tabindex: "0", role: "region", "aria-label": what }, pretty.slice(0, MOST_SHOWN))];
}

const examplesOf = (body) => Object.values(body?.examples ?? (body && "example" in body ? { example: { summary: "Example", value: body.example } } : {}));

function contentShown(content, what, where) {
  return Object.entries(content ?? {}).flatMap(([range, body]) => [
    element("h4", {}, `${what}: `, element("code", {}, range)),
    ...(body.schema ? schemaShown(body.schema, `${what}, ${range}, ${where}`) : []),
    ...examplesOf(body).flatMap((example) => exampleShown(example, range, `${what} example, ${range}, ${where}`)),
  ]);
}

// --- operations

// The request of the example, as the playground has it for its copies; null where there is no body to send.
function requestOf(path, operation) {
  for (const [range, body] of Object.entries(operation.requestBody?.content ?? {})) {
    for (const example of examplesOf(body)) {
      const found = bytesOf(example, range);
      if (!found) continue;
      const accept = example["x-tidegate-headers"]?.Accept;
      const chat = path.endsWith("/chat/completions");
      const headers = { "content-type": found.type, ...(accept ? { accept } : {}) };
      const chosen = operation["x-tidegate-playground"]?.version;
      if (chosen && !path.startsWith("/v2")) {
        headers["x-amzn-sagemaker-custom-attributes"] = `model=${operation["x-tidegate-playground"].model};version=${chosen}`;
      }
      return { endpoint: "YOUR-ENDPOINT", headers, body: found.bytes, path, streams: false, chat };
    }
  }
  return null;
}

function copiesShown(path, operation, where) {
  const request = path.includes("{") || !operation["x-tidegate-playground"] ? null : requestOf(path, operation);
  if (!request) return [];
  const said = element("span", { role: "status" });
  const code = element("pre", { tabindex: "0", role: "region", "aria-label": `Request as code, ${where}`, hidden: "" });
  const button = (words, name) => {
    const made = element("button", { type: "button", "data-copy": name }, words);
    made.addEventListener("click", async () => {
      const text = COPIES[name](request);
      code.textContent = text;
      code.hidden = false;
      try {
        await navigator.clipboard.writeText(text);
        said.textContent = "Copied.";
      } catch {
        said.textContent = "Copy it from below.";
      }
    });
    return made;
  };
  return [
    element("h4", {}, "Copy the example as …"),
    element("div", { class: "row" }, button("boto3", "boto3"), button("curl", "curl"), button("AWS CLI", "aws"), said),
    code,
  ];
}

function playgroundLink(operation) {
  const asked = operation["x-tidegate-playground"];
  if (!asked) return [];
  return [element("p", {}, element("a", { href: `/playground?${new URLSearchParams(asked)}` }, `Try it in the playground`))];
}

function parametersShown(operation, where) {
  const found = (operation.parameters ?? []).map(resolved);
  if (!found.length) return [];
  const rows = found.map((each) => [each.name, each.in, each.required ? "yes" : "", withCode("span", each.description)]);
  return [element("h4", {}, "Parameters"), table(["name", "in", "required", "meaning"], rows, `Parameters of ${where}`)];
}

function responsesShown(operation, where) {
  const entries = Object.entries(operation.responses ?? {}).map(([status, value]) => [status, resolved(value)]);
  const isError = ([status]) => /^[45]/.test(status);
  const good = entries.filter((entry) => !isError(entry)).flatMap(([status, response]) => [
    element("h4", {}, `Response ${status}`), ...paragraphs(response.description), ...contentShown(response.content, `Response ${status}`, where),
  ]);
  const bad = entries.filter(isError);
  if (!bad.length) return good;
  const list = bad.flatMap(([status, response]) => [element("dt", {}, status), element("dd", {}, ...paragraphs(response.description))]);
  return [...good, element("details", {}, element("summary", {}, `Errors: ${bad.map(([status]) => status).join(", ")}`), element("dl", {}, ...list))];
}

function operationShown(path, verb, operation) {
  const where = `${verb.toUpperCase()} ${path}`;
  return element(
    "article", { id: operation.operationId, "aria-labelledby": `${operation.operationId}-title` },
    element("h3", { id: `${operation.operationId}-title` }, element("span", { class: "verb" }, verb.toUpperCase()), " ", element("code", {}, path)),
    element("p", {}, element("b", {}, operation.summary ?? "")),
    ...paragraphs(operation.description),
    ...playgroundLink(operation),
    ...parametersShown(operation, where),
    ...contentShown(operation.requestBody?.content, "Request", where),
    ...copiesShown(path, operation, where),
    ...responsesShown(operation, where),
  );
}

// --- the page

function allOperations() {
  return Object.entries(DESCRIPTION.paths ?? {}).flatMap(([path, verbs]) => VERBS.filter((verb) => verbs[verb]).map((verb) => ({ path, verb, operation: verbs[verb] })));
}

function showAll() {
  const { info, tags } = DESCRIPTION;
  byId("title").textContent = info.title;
  document.title = `${info.title} · API · Tidegate`;
  byId("place").textContent = `${info.version}, OpenAPI ${DESCRIPTION.openapi}, ${DESCRIPTION.servers[0].url}`;
  byId("words").replaceChildren(...paragraphs(info.description));
  const operations = allOperations();
  for (const { name, description } of tags) {
    const own = operations.filter(({ operation }) => operation.tags[0] === name);
    const links = own.map(({ path, verb, operation }) => element("li", {}, element("a", { href: `#${operation.operationId}` }, `${verb.toUpperCase()} ${path}`)));
    byId("list").append(element("div", {}, element("h3", {}, name), element("ul", {}, ...links)));
    byId("groups").append(
      element("div", { class: "group" }, element("h2", {}, name), ...paragraphs(description), ...own.map(({ path, verb, operation }) => operationShown(path, verb, operation))),
    );
  }
  byId("outcome").textContent = `${operations.length} operations.`;
  byId("operations").removeAttribute("aria-busy");
  if (location.hash) byId(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
}

// Shows the operations that have every word, in their path, summary or group.
function filter() {
  const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const { path, verb, operation } of allOperations()) {
    const text = `${verb} ${path} ${operation.summary} ${operation.tags}`.toLowerCase();
    const fits = words.every((word) => text.includes(word));
    byId(operation.operationId).hidden = !fits;
    const link = [...byId("list").querySelectorAll("a")].find((each) => each.hash === `#${operation.operationId}`);
    link.parentElement.hidden = !fits;
    count += fits;
  }
  for (const group of [...byId("list").children, ...byId("groups").children]) {
    group.hidden = !group.querySelector("li:not([hidden]), article:not([hidden])");
  }
  byId("found").textContent = words.length ? `${count} operations` : "";
}

byId("filter").addEventListener("input", filter);
ask("/openapi.json").then((description) => {
  DESCRIPTION = description;
  showAll();
}).catch((error) => {
  byId("outcome").textContent = `The description cannot be read: ${error.message}`;
  byId("outcome").className = "bad";
  byId("operations").removeAttribute("aria-busy");
});
