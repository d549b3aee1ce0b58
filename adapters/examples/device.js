// A device on a WebSocket: sends a message when it is connected, and prints what comes, until Ctrl-C.
//   npm install ws
//   KEY=… node device.js [URL [CHANNEL [MESSAGE]]]      (an empty MESSAGE: only listens)
const WebSocket = require("ws");

const [url = "wss://localhost:8443", channel = "lab.telemetry", message = '[{"n":"voltage","u":"V","v":120.1}]'] =
  process.argv.slice(2);
const key = process.env.KEY;
if (!key) {
  console.error("No key: say it in the environment, as KEY=… node device.js");
  process.exit(1);
}

// At home the certificate may be signed by nobody. Elsewhere it must be, or NODE_EXTRA_CA_CERTS names who signed it.
if (new URL(url).hostname === "localhost") process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";

// Who cannot send a header, as a browser, adds `?authorization=<key>` to the address.
const socket = new WebSocket(`${url}/ws/channels/${channel}/messages`, { headers: { Authorization: key } });

socket.on("open", () => message && socket.send(message));
socket.on("message", (data) => console.log(data.toString()));
socket.on("close", (code, reason) => {
  console.log(`closed: ${code} ${reason}`);
  process.exitCode = code === 1000 ? 0 : 1;
});
// Not let in: the answer says why.
socket.on("unexpected-response", (_, answer) => {
  answer.on("data", (problem) => console.error(problem.toString()));
  answer.on("end", () => process.exit(1));
});
socket.on("error", (error) => console.error(error.message));
process.on("SIGINT", () => socket.close(1000));
