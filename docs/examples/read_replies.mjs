// Reads replies from the socket of stablediffusion_responsed and writes each picture to a file:
//
//     node read_replies.mjs results.alice [50007] [localhost]
//
// Jobs whose replies it is to read are published with results.alice as their reply_to.
import { writeFile } from "node:fs/promises";
import { connect } from "node:net";

const [queue, port = "50007", host = "localhost"] = process.argv.slice(2);
if (!queue) throw new Error("usage: read_replies.mjs QUEUE [PORT] [HOST]");

const socket = connect(Number(port), host);
const say = (op) => socket.write(JSON.stringify(op) + "\n");
say({ op: "listen", queue, encoding: "binary", ack: "manual" });

const chunks = socket[Symbol.asyncIterator]();
let buffer = Buffer.alloc(0);

// The next `length` bytes.
async function read(length) {
  const pieces = [buffer];
  let size = buffer.length;
  while (size < length) {
    const { value, done } = await chunks.next();
    if (done) throw new Error("the connection ended inside a picture");
    pieces.push(value);
    size += value.length;
  }
  const all = Buffer.concat(pieces);
  buffer = all.subarray(length);
  return all.subarray(0, length);
}

// The next line, or null at the end. Not node:readline: it knows no bytes, and pictures are no lines.
async function readLine() {
  for (;;) {
    const end = buffer.indexOf("\n");
    if (end >= 0) return (await read(end + 1)).toString();
    const { value, done } = await chunks.next();
    if (done) return null;
    buffer = Buffer.concat([buffer, value]);
  }
}

const suffix = (reply) => reply.content_type.split("/").pop(); // png, jpeg or webp
const fileName = (reply) => `${encodeURIComponent(reply.id)}-${reply.index}.${suffix(reply)}`;

function report(reply) {
  if (reply.type === "image") console.log("written", fileName(reply));
  else if (reply.type === "failed") console.log("failed", reply.id, reply.error.message);
  else if (reply.type === "error") console.log("error", reply.message);
  else console.log(reply.type, reply.id ?? "");
}

for (let line; (line = await readLine()) !== null; ) {
  const reply = JSON.parse(line);
  const data = await read(reply.length ?? 0);
  if (reply.type === "image") await writeFile(fileName(reply), data); // fails: not acked, the next reader gets it
  if (reply.delivery) say({ op: "ack", delivery: reply.delivery });
  report(reply);
}
