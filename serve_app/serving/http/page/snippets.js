// The request as a curl command and as Python, quoted so that both send exactly what the page sends. Pure.

import { options } from "./job.js";

/** A text as one word of a POSIX shell. */
export const shellQuoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** A text as a Python literal: JSON's escapes are Python's, too. */
export const pythonQuoted = (text) => JSON.stringify(text);

/**
 * @param {import("./job.js").Job} job
 * @param {string} service - its address, without a slash at the end.
 * @param {boolean} asksToken - whether the service asks for a token; the command takes it from the environment.
 */
export function curl(job, service, asksToken) {
  const words = ["curl"];
  if (asksToken) words.push(`-H "Authorization: Bearer $GENSEG_TOKEN"`);
  // --form-string: with -F, a text that begins with @ or < would be read as a file's name.
  if (job.prompt) words.push(`--form-string ${shellQuoted(`prompt=${job.prompt}`)}`);
  for (const [name, value] of options(job)) {
    words.push(`--form-string ${shellQuoted(`${name}=${JSON.stringify(value)}`)}`);
  }
  const file = (field, { name }) => {
    // curl unquotes the name: a comma or a semicolon would end it otherwise.
    const quoted = name.replaceAll("\\", "\\\\").replaceAll('"', '\\"');
    return `-F ${shellQuoted(`${field}=@"${quoted}"`)}`;
  };
  words.push(...job.contextual.map((each) => file("contextual", each)));
  if (job.generated) words.push(file("generated", job.generated));
  words.push(shellQuoted(`${service}/v1/segment`));
  return words.join(" \\\n  ");
}

function pythonValue(value) {
  if (value === true) return "True";
  if (Array.isArray(value)) return `[${value.map(pythonValue).join(", ")}]`;
  if (value !== null && typeof value === "object") {
    return `{${Object.entries(value).map(([key, each]) => `${pythonQuoted(key)}: ${pythonValue(each)}`).join(", ")}}`;
  }
  return JSON.stringify(value);
}

/** The same with the client of the package; see `curl`. */
export function python(job, service, asksToken) {
  const token = asksToken ? `, token=os.environ["GENSEG_TOKEN"]` : "";
  const given = [
    pythonQuoted(job.prompt),
    pythonValue(job.contextual.map((file) => file.name)),
    job.generated ? pythonQuoted(job.generated.name) : "None",
    ...options(job).map(([name, value]) => `${name}=${pythonValue(value)}`),
  ];
  const call = `client.segment(\n        ${given.join(",\n        ")},\n    )`;
  return [
    ...(asksToken ? ["import os", ""] : []),
    "from serve_app.client import Client",
    "",
    `with Client(${pythonQuoted(service)}${token}) as client:`,
    `    result = ${call}`,
    "    for image in result.images:",
    "        for found in image.objects:",
    "            print(image.path, found.object_id, found.score)",
    ...(job.verdict ? ["    print(result.verdict.arrived, result.verdict.reasons)"] : []),
  ].join("\n");
}
