// The same request as code: boto3, curl, and AWS's command line, each quoted so that it can be pasted.

const MOST_INLINE = 16384;

// For a POSIX shell: inside single quotes nothing is special but the quote itself.
const shellWord = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

// A literal that Python reads: JSON's strings are Python's, but for characters beyond the sixteen bits.
const pythonText = (text) => JSON.stringify(text).replace(/[\u007f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`)
  .replace(/\\u(d[89ab]..)\\u(d[c-f]..)/g, (_, high, low) => {
    const point = 0x10000 + ((parseInt(high, 16) - 0xd800) << 10) + (parseInt(low, 16) - 0xdc00);
    return `\\U${point.toString(16).padStart(8, "0")}`;
  });

const pythonValue = (messages) => `[${messages.map((each) => `{${Object.entries(each).map(([key, value]) => `${pythonText(key)}: ${pythonText(value)}`).join(", ")}}`).join(", ")}]`;

function fileName(type) {
  const endings = { "application/json": "json", "application/jsonlines": "jsonl", "text/csv": "csv", "text/plain": "txt", "application/x-npy": "npy", "image/png": "png", "image/jpeg": "jpg" };
  return `request.${endings[mediaType(type)] ?? "bin"}`;
}

// Lines of shell that write the body to a file; a large one has to be saved by hand.
function shellFile(body, name) {
  const text = textOf(body);
  if (body.length > MOST_INLINE) return `# The body has ${sizeWords(body.length)}: save it as ${name}.`;
  if (text !== null && !text.includes("\r")) return `printf '%s' ${shellWord(text)} > ${name}`;
  return `printf '%s' ${toBase64(body)} | base64 -d > ${name}`;
}

const MEMBERS = {
  "content-type": "ContentType", accept: "Accept", "x-amzn-sagemaker-custom-attributes": "CustomAttributes",
  "x-amzn-sagemaker-content-type": "ContentType", "x-amzn-sagemaker-accept": "Accept",
  "x-amzn-sagemaker-target-variant": "TargetVariant", "x-amzn-sagemaker-target-model": "TargetModel",
  "x-amzn-sagemaker-inference-component": "InferenceComponentName", "x-amzn-sagemaker-target-container-hostname": "TargetContainerHostname",
};
const fileOf = (headers) => fileName(headers["content-type"] ?? headers["x-amzn-sagemaker-content-type"]);
const flagOf = (member) => `--${member.replace(/(?<!^)[A-Z]/g, (letter) => `-${letter}`).toLowerCase()}`;

// `asked` is {endpoint, headers, body, path, awsPath, streams, chat, later}; `endpoint` is a name to fill in where a server was asked.
function asBoto3({ endpoint, headers, body, streams, chat, later }) {
  if (chat) {
    const asked = JSON.parse(decodeText(body));
    return [
      "from openai import OpenAI", "from tidegate.client import Endpoint", "",
      `endpoint = Endpoint(${pythonText(endpoint)})`,
      "client = OpenAI(base_url=endpoint.openai_base_url, api_key=endpoint.bearer_token)",
      "stream = client.chat.completions.create(",
      `    model=${pythonText(asked.model)}, messages=${pythonValue(asked.messages)}, stream=True`, ")",
      "for chunk in stream:", '    print(chunk.choices[0].delta.content or "" if chunk.choices else "", end="", flush=True)',
    ].join("\n");
  }
  const text = textOf(body);
  const small = body.length <= MOST_INLINE;
  const name = fileOf(headers);
  const given = !small ? `Path(${pythonText(name)}).read_bytes()` : text !== null ? `${pythonText(text)}.encode()` : `base64.b64decode(${pythonText(toBase64(body))})`;
  const imports = [...(small && text === null ? ["import base64"] : []), ...(small ? [] : ["from pathlib import Path"])];
  const members = Object.entries(headers).filter(([header]) => MEMBERS[header]).map(([header, value]) => `    ${MEMBERS[header]}=${pythonText(value)},`);
  const operation = streams ? "invoke_endpoint_with_response_stream" : later ? "invoke_endpoint_async" : "invoke_endpoint";
  const read = later ? ['print(response["OutputLocation"])  # the answer, once it is there'] : streams
    ? ['for event in response["Body"]:', '    print(event["PayloadPart"]["Bytes"].decode(), end="", flush=True)']
    : ['print(response["ContentType"], response["Body"].read())'];
  return [
    ...imports, ...(imports.length ? [""] : []), "import boto3", "",
    'runtime = boto3.client("sagemaker-runtime")', `response = runtime.${operation}(`,
    `    EndpointName=${pythonText(endpoint)},`, ...members, `    Body=${given},`, ")", ...read,
  ].join("\n");
}

function asCurl({ endpoint, headers, body, path, awsPath, streams, chat }) {
  const name = fileOf(headers);
  const given = Object.entries(headers).map(([header, value]) => `  --header ${shellWord(`${header}: ${value}`)} \\`);
  const server = FACTS.kind === "server";
  const address = server
    ? [`curl ${shellWord(location.origin + path)} \\`]
    : chat
      ? [`curl "$AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"${shellWord(awsPath)} \\`, '  --header "Authorization: Bearer $TOKEN" \\']
      : [
          `curl "$AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"${shellWord(awsPath)} \\`,
          `  --aws-sigv4 ${shellWord(`aws:amz:${FACTS.region}:sagemaker`)} --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" \\`,
        ];
  const streaming = streams || chat ? ["  --no-buffer \\"] : [];
  return [shellFile(body, name), ...address, ...given, ...streaming, `  --data-binary @${name}`].join("\n");
}

function asAws({ endpoint, headers, body, streams, chat, later }) {
  if (chat || streams) return `# The AWS CLI has no command for ${chat ? "chat completions" : "streamed responses"}: use boto3 or curl.`;
  const name = fileOf(headers);
  const members = Object.entries(headers).filter(([header]) => MEMBERS[header]).map(([header, value]) => `  ${flagOf(MEMBERS[header])} ${shellWord(value)} \\`);
  return [
    shellFile(body, name), `aws sagemaker-runtime invoke-endpoint${later ? "-async" : ""} \\`, `  --endpoint-name ${shellWord(endpoint)} \\`, ...members,
    ...(later ? [`  --body fileb://${name}`] : [`  --body fileb://${name} \\`, "  answer.bin && cat answer.bin"]),
  ].join("\n");
}

const COPIES = { boto3: asBoto3, curl: asCurl, aws: asAws };
