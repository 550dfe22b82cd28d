import { connect, type NatsConnection } from 'nats';
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { findHeader, headerTextOf } from '../../src/server/forward/connection/nats-headers.js';
import { connectNats } from '../../src/server/forward/connection/nats-link.js';
import { openNatsRequests, type RequestError } from '../../src/server/forward/connection/nats-requests.js';
import { noNatsSettings, openTestLog } from '../support/forwarding.js';
import { startNatsServer, type TestNatsServer } from '../support/nats-server.js';

describe('requests to NATS', () => {
  let nats: TestNatsServer;
  let service: NatsConnection;
  beforeEach(async () => {
    nats = await startNatsServer({
      configExtra: `authorization { users = [
        { user: service, password: p },
        { user: u, password: p, permissions: { publish: { deny: ["denied"] } } },
      ] }`,
    });
    service = await connect({ servers: nats.url, user: 'service', pass: 'p' });
  });
  afterEach(async () => {
    await service.close();
    await nats.stop();
  });

  async function openRequests() {
    const url = nats.url.replace('nats://', 'nats://u:p@');
    const link = await connectNats({ ...noNatsSettings, natsUrl: url }, openTestLog().log);
    onTestFinished(() => link.close());
    return openNatsRequests(link, '_INBOX');
  }

  async function serve(subject: string): Promise<void> {
    service.subscribe(subject, {
      callback: (_error, message) =>
        void message.respond(`${message.string()} ${findHeader(headerTextOf(message), 'Name')}`),
    });
    await service.flush();
  }

  const failureOf = (answer: Promise<unknown>) =>
    answer.then(
      () => undefined,
      ({ mayPass, noResponders }: RequestError) => ({ mayPass, noResponders }),
    );

  test('each gets its own answer, however many are under way', async () => {
    const requests = await openRequests();
    await serve('echo');
    const block = Buffer.from('NATS/1.0\r\nName: it\r\n\r\n');
    const answers = await Promise.all(
      Array.from({ length: 1_000 }, (_, index) => requests.ask('echo', String(index), block)),
    );
    expect(answers.map((answer) => answer.string())).toEqual(answers.map((_, index) => `${index} it`));
  });

  test.each(['', 'echo it', 'echo\r\nPUB forged 1\r\nx\r\n', 'echo\t', 'echo\0', 'echo\x7f'])(
    'is not made of what is no subject: %j',
    async (subject) => {
      const requests = await openRequests();
      await serve('echo');
      const forged: string[] = [];
      service.subscribe('forged', { callback: (_error, message) => void forged.push(message.string()) });
      expect(await failureOf(requests.ask(subject, 'x'))).toEqual({ mayPass: false, noResponders: false });
      expect((await requests.ask('echo', 'x')).string()).toBe('x ');
      expect(forged).toEqual([]);
    },
  );

  test('that nobody answers, or may not be made, fail at once; those to somebody silent in time', async () => {
    const requests = await openRequests();
    service.subscribe('silent', { callback: () => {} });
    await service.flush();
    const failures = ['nobody', 'denied', 'silent'].map((subject) => failureOf(requests.ask(subject, '')));
    expect(await failures[0]).toEqual({ mayPass: true, noResponders: true });
    expect(await failures[1]).toEqual({ mayPass: false, noResponders: false });
    expect(await failures[2]).toEqual({ mayPass: true, noResponders: false });
    const tooLarge = await failureOf(requests.ask('echo', new Uint8Array(2_000_000)));
    expect(tooLarge).toEqual({ mayPass: false, noResponders: false });
  });

  test('under way when the connection is lost fail, as do those made meanwhile', async () => {
    const requests = await openRequests();
    service.subscribe('silent', { callback: () => {} });
    await service.flush();
    const failed = failureOf(requests.ask('silent', ''));
    await nats.kill();
    expect(await failed).toEqual({ mayPass: true, noResponders: false });
    expect(await failureOf(requests.ask('silent', ''))).toEqual({ mayPass: true, noResponders: false });
  });
});
