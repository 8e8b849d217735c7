// A client of the chat's protocol for Node, without any package. Written from docs/reference/chat-protocol.md alone.
//
//   node client.mjs HOST PORT NICK ROOM TEXT
//
// Comes into the room under the name, says the text, and prints what is said there until somebody says "bye <nick>".
import { connect } from "node:net";

const [host, port, nick, room, text] = process.argv.slice(2);
const socket = connect(Number(port), host);
let got = Buffer.alloc(0);

function tell(command) {
  const data = Buffer.from(JSON.stringify(command), "utf8");
  const length = Buffer.alloc(4);
  length.writeUInt32BE(data.length);
  socket.write(Buffer.concat([length, data]));
}

function hear(event) {
  switch (event.type) {
    case "welcome":
      return tell({ type: "nick", nick });
    case "renamed":
      if (event.new === nick && !event.room) tell({ type: "join", room });
      return;
    case "history":
      if (event.room === room && !event.more) tell({ type: "say", room, text });
      return;
    case "ping":
      return tell({ type: "pong" });
    case "message":
      if (event.room !== room) return;
      console.log(`${event.nick}: ${event.text}`);
      if (event.text === `bye ${nick}`) socket.end();
      return;
    case "error":
      console.error(`${event.code}: ${event.text}`);
      process.exit(1);
  }
}

socket.on("data", (piece) => {
  got = Buffer.concat([got, piece]);
  while (got.length >= 4 && got.length >= 4 + got.readUInt32BE(0)) {
    const end = 4 + got.readUInt32BE(0);
    hear(JSON.parse(got.subarray(4, end).toString("utf8")));
    got = got.subarray(end);
  }
});
