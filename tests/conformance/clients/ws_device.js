// A device on a WebSocket of npm's `ws` that does what it is told, line by line in JSON, and tells what happens.
const fs = require("fs");
const readline = require("readline");
const WebSocket = require("ws");

const tell = (event, more = {}) => console.log(JSON.stringify({ event, ...more }));
let socket;

function connect(said) {
  socket = new WebSocket(said.url, said.protocols, {
    headers: said.headers,
    ca: said.ca ? fs.readFileSync(said.ca) : undefined,
  });
  socket.on("open", () => tell("connected", { protocol: socket.protocol }));
  socket.on("unexpected-response", (request, response) => {
    tell("refused", { status: response.statusCode });
    request.destroy();
  });
  socket.on("error", (error) => tell("fault", { text: String(error) }));
  socket.on("message", (data, isBinary) =>
    tell("message", isBinary ? { base64: data.toString("base64") } : { text: data.toString() }),
  );
  socket.on("close", (code, reason) => tell("closed", { code, reason: reason.toString() }));
}

const todo = {
  connect,
  text: (said) => socket.send(said.payload),
  binary: (said) => socket.send(Buffer.from(said.payload, "base64")),
  close: (said) => socket.close(said.code),
  drop: () => socket.terminate(),
};

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const said = JSON.parse(line);
  todo[said.do](said);
});
