// SPDX-License-Identifier: GPL-2.0-or-later
//
// A client in JavaScript: prints the events of a directory as docs/reference/protocol.md says.
//
//     node watch.js SOCKET PATH
"use strict";

const net = require("node:net");
const { encode, decode } = require("@msgpack/msgpack");

const IN_ALL_EVENTS = 0xfff;
const IN_IGNORED = 0x8000;
const [socketPath, watchedPath, tree] = process.argv.slice(2);

const connection = net.connect(socketPath);
const waiting = new Map();
let received = Buffer.alloc(0);
let lastId = 0;

connection.on("data", (data) => {
  received = Buffer.concat([received, data]);
  while (received.length >= 4 && received.length >= 4 + received.readUInt32BE(0)) {
    const end = 4 + received.readUInt32BE(0);
    const answer = decode(received.subarray(4, end));
    received = received.subarray(end);
    if (answer.type === "error") {
      console.error(answer.message);
      process.exit(1);
    }
    waiting.get(answer.id)(answer);
    waiting.delete(answer.id);
  }
});

function ask(request) {
  const id = ++lastId;
  const body = encode({ ...request, id });
  const length = Buffer.alloc(4);
  length.writeUInt32BE(body.length);
  connection.write(Buffer.concat([length, body]));
  return new Promise((resolve) => waiting.set(id, resolve));
}

async function main() {
  await ask({ type: "hello", version: 1 });
  const { device } = await ask({ type: "init" });
  const path = Buffer.from(watchedPath);
  const watch = { type: "add_watch", device, path, mask: IN_ALL_EVENTS };
  const { wd } = await ask(tree ? { ...watch, tree: true } : watch);
  console.log(`watching as ${wd}`);
  for (let mask = 0; !(mask & IN_IGNORED); ) {
    const { data } = await ask({ type: "read", device, size: 65536 });
    const records = Buffer.from(data);
    for (let at = 0; at < records.length; at += 16 + records.readUInt32LE(at + 12)) {
      mask = records.readUInt32LE(at + 4);
      const length = records.readUInt32LE(at + 12);
      const name = records.subarray(at + 16, at + 16 + length).toString().replace(/\0+$/, "");
      console.log(`${records.readInt32LE(at)} 0x${mask.toString(16)} ${records.readUInt32LE(at + 8)} ${name}`);
    }
  }
  connection.end();
}

main();
