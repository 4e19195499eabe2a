// A request as others may send it.

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

// What was asked for, by itself: pictures stand as hashes in it, and have to be given again.
export function plain(job) {
  const { image, mask, control, ip_adapter, ...fields } = job.request;
  return fields;
}

export const needsPictures = (job) => Boolean(job.request.image || job.request.control || job.request.ip_adapter);

export const json = (job) => JSON.stringify(plain(job), null, 2);

export function curl(job) {
  return `curl ${location.origin}/jobs -H 'Content-Type: application/json' -d ${quoted(JSON.stringify(plain(job)))}`;
}

// A value as Python writes it.
function literal(value) {
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value !== "object") return JSON.stringify(value);
  return `{${Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}: ${literal(each)}`).join(", ")}}`;
}

export function python(job) {
  return [
    "from stablediffusiond.client import Client",
    "",
    "with Client() as client:",
    "    pictures = client.draw(",
    ...Object.entries(plain(job)).map(([name, value]) => `        ${name}=${literal(value)},`),
    "    )",
    "pictures[0].save(\"picture.png\")",
  ].join("\n");
}
