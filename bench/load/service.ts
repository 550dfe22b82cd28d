import { connect } from 'nats';

/** What a device is compared with: a service that answers a NATS request at once. */
export function openService({ natsUrl, subject }: { natsUrl: string; subject: string }) {
  return {
    async connect(): Promise<void> {
      const nats = await connect({ servers: natsUrl });
      nats.subscribe(subject, { callback: (_error, message) => message.respond(message.data) });
      await nats.flush();
    },
  };
}
