import { createServer } from 'node:net';
import { Aedes } from 'aedes';
import { connect } from 'nats';

/** A bare aedes in a process of its own; with a NATS URL it stores every message before it is acknowledged. */
const [, , natsUrl] = process.argv;
const broker = await Aedes.createBroker();

if (natsUrl !== undefined) {
  const connection = await connect({ servers: natsUrl });
  const jetstream = connection.jetstream();
  broker.authorizePublish = (_client, packet, done) => {
    const payload = typeof packet.payload === 'string' ? Buffer.from(packet.payload) : packet.payload;
    jetstream.publish(packet.topic.replaceAll('/', '.'), payload, { timeout: 60_000 }).then(
      () => done(null),
      (error: Error) => done(error),
    );
  };
}

const server = createServer((socket) => {
  socket.setNoDelay(true);
  broker.handle(socket);
});
server.listen(0, '127.0.0.1', 4_096, () => {
  const address = server.address();
  process.stdout.write(`port ${typeof address === 'object' ? address?.port : address}\n`);
});
process.on('SIGTERM', () => process.exit(0));
process.on('SIGINT', () => {});
