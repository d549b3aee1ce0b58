// A device of MQTT.js that does what it is told, line by line in JSON, and tells what happens.
const fs = require("fs");
const readline = require("readline");
const mqtt = require("mqtt");

const tell = (event, more = {}) => console.log(JSON.stringify({ event, ...more }));
const VERSIONS = { "3.1": ["MQIsdp", 3], "3.1.1": ["MQTT", 4], 5: ["MQTT", 5] };
let client;

function connect(said) {
  const [protocolId, protocolVersion] = VERSIONS[said.version];
  client = mqtt.connect({
    protocol: (said.path ? "ws" : "mqtt") + (said.ca ? "s" : ""),
    host: said.host,
    port: said.port,
    path: said.path ?? undefined,
    ca: said.ca ? fs.readFileSync(said.ca) : undefined,
    username: said.thing,
    password: said.key,
    clientId: said.id,
    clean: said.clean,
    protocolId,
    protocolVersion,
    keepalive: 30,
    // Once lost, it stays so: the test says when it comes back.
    reconnectPeriod: 0,
    resubscribe: false,
    properties: protocolVersion === 5 ? { sessionExpiryInterval: said.clean ? 0 : 300 } : undefined,
    will: said.will ? { topic: said.will, payload: Buffer.from("gone"), qos: 1 } : undefined,
  });
  client.on("connect", (packet) => tell("connected", { present: packet.sessionPresent }));
  client.on("error", () => tell("refused"));
  client.on("close", () => tell("closed"));
  client.on("message", (topic, payload, packet) =>
    tell("message", {
      topic,
      bytes: payload.length,
      payload: payload.subarray(0, 100).toString(),
      qos: packet.qos,
      retain: packet.retain,
    }),
  );
}

const todo = {
  connect,
  subscribe: (said) =>
    client.subscribe(said.filter, { qos: said.qos }, (error, granted) =>
      tell("subscribed", { refused: Boolean(error) || granted.some((one) => one.qos >= 128) }),
    ),
  publish: (said) =>
    client.publish(said.topic, said.payload + ".".repeat(said.padding), { qos: said.qos, retain: said.retain }, (error) =>
      tell("published", { refused: Boolean(error) }),
    ),
  disconnect: () => client.end(),
  drop: () => client.stream.destroy(),
};

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const said = JSON.parse(line);
  todo[said.do](said);
});
