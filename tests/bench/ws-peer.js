// A server of npm's `ws`: what one socket says goes to all others, and `tidegate.v1` is answered. Says its port; ends with
// its standard input.
const { WebSocketServer } = require("ws");

const ANSWERED = "tidegate.v1";
const server = new WebSocketServer({
  host: "127.0.0.1",
  port: 0,
  handleProtocols: (offered) => (offered.has(ANSWERED) ? ANSWERED : false),
});

// As much as the adapter says of a message.
const envelope = (payload) =>
  JSON.stringify({
    type: "message",
    id: "019ac6d2-5c0a-7d3e-9c0e-5d1f0c7a7d11",
    topic: "channels/lab.telemetry/messages/a",
    publisher: "lab.dev1",
    contentType: "application/senml+json",
    time: new Date().toISOString(),
    payload: payload.toString(),
  });

function deliver(from, payload, isBinary) {
  let message;
  for (const socket of server.clients) {
    if (socket === from) continue;
    if (socket.protocol === ANSWERED) socket.send((message ??= envelope(payload)));
    else socket.send(payload, { binary: isBinary });
  }
}

server.on("connection", (socket) => {
  const isAnswered = socket.protocol === ANSWERED;
  if (isAnswered) socket.send(JSON.stringify({ type: "ready", publish: true, subscribe: true }));
  socket.on("error", () => {});
  socket.on("message", (data, isBinary) => {
    if (!isAnswered) return deliver(socket, data, isBinary);
    const said = JSON.parse(data);
    socket.send(JSON.stringify({ type: "accepted", id: said.id }));
    deliver(socket, Buffer.from(said.payload), false);
  });
});

server.on("listening", () => console.log(server.address().port));
process.stdin.on("end", () => process.exit()).resume();
