import { randomBytes } from 'node:crypto';
import type { DeviceCredentials } from '../../db/devices/device-credentials.js';
import type { Refusal } from './admission/authenticate.js';
import type { Policy } from './admission/authorize.js';
import { agreeOn, connackOf, type Terms } from './admission/connack.js';
import { type Login, logIn } from './admission/login.js';
import { updatePublishRate } from './admission/publish-rate.js';
import type { ConnectionServices } from './connection-services.js';
import type { Codec, Connect } from './protocol/codec.js';
import type { Client, ClientConnection } from './sessions/client.js';
import { awaitCommands } from './sessions/commands/commands-request.js';
import type { ClientLimits } from './sessions/delivery/delivery-writer.js';
import type { Admission } from './sessions/registry.js';
import type { Taken } from './sessions/taking/session-taking.js';
import type { Silence } from './silence.js';
import type { AcceptedSocket } from './transport/accepted-socket.js';

/** A connection between CONNECT and CONNACK. */
export interface JoiningConnection extends ClientConnection {
  readonly accepted: AcceptedSocket;
  readonly codec: Codec;
  /** It still waits for its CONNACK. */
  readonly isJoining: boolean;
  readonly silence: Silence;
  /** Of now: it can change while the session is taken. */
  readonly policy: Policy | undefined;
  /** The bound of what the client sends once it has joined. */
  readonly agreedPacketBytes: number;
  /** It is known who the client is, and that it may in. */
  onLogin(login: Login, clientId: string): void;
}

/** What a connection begins with. */
export interface Joined {
  readonly login: Login;
  readonly client: Client;
  readonly sessionPresent: boolean;
  readonly terms: Terms;
  readonly limits: ClientLimits;
  readonly connack: Buffer;
}

/**
 * The steps from CONNECT to CONNACK, in their order: who the client is, its place among its device's clients, its session,
 * and the commands that this waits for.
 *
 * @returns why it is refused; undefined when the connection has ended meanwhile.
 */
export async function join(
  connection: JoiningConnection,
  connect: Connect,
  services: ConnectionServices,
): Promise<Joined | Refusal | undefined> {
  const { config, registry } = services;
  const { codec, accepted, silence } = connection;
  // What the database does not answer is refused before the time for CONNECT ends the connection without a word.
  const login = await logIn(connect, accepted, services.login, silence.refuseUntilMs);
  if (!connection.isJoining) return undefined;
  if ('refused' in login) return login;
  const { device, policy } = login;
  const clientId = connect.clientId === '' ? `auto-${randomBytes(10).toString('hex')}` : connect.clientId;
  connection.onLogin(login, clientId);
  const terms = agreeOn(connect, codec, config);
  const admission = registry.admit(connection, {
    deviceId: device.id,
    deviceType: device.type,
    clientId,
    cleanStart: connect.cleanStart,
    sessionExpirySec: terms.sessionExpirySec,
    rules: services.rulesOf(device, policy),
  });
  if (admission === undefined) return { refused: 'too-many-clients' };
  const { client } = admission;
  client.device.ledger.connect(accepted.remoteAddress);
  client.device.publishRate = updatePublishRate(client.device.publishRate, services.publishRateOf(policy));
  const taken = await takeSession(
    connection,
    admission,
    connect,
    { ...terms, device: login.device },
    services,
  );
  if (!connection.isJoining) return undefined;
  if ('refused' in taken) return taken;
  const sessionPresent = taken.sessionPresent && (await mayGoOnWith(client, connection, services));
  if (!connection.isJoining) return undefined;
  const answersTo = `cmd/${device.id}/`;
  const connack = codec.encodeConnack(
    sessionPresent,
    codec.explains
      ? connackOf(connect, terms, {
          maxPacketBytes: connection.agreedPacketBytes,
          assignedClientId: connect.clientId === '' ? clientId : undefined,
          responseInformation:
            connection.policy?.maySubscribe(`${answersTo}#`) === true ? answersTo : undefined,
        })
      : {},
  );
  const { receiveMaximum, maxPacketBytes } = connect;
  if (connack.length > maxPacketBytes) return { refused: 'answer-too-large' };
  const topicAliasMaximum = Math.min(connect.topicAliasMaximum, config.maxTopicAliases);
  const limits = { receiveMaximum, maxPacketBytes, topicAliasMaximum };
  return { login, client, sessionPresent, terms, limits, connack };
}

/** The client's session, where it has or wants one that outlives its connection; no other client waits. */
function takeSession(
  connection: JoiningConnection,
  { client, sessionPresent }: Admission,
  { cleanStart }: Connect,
  { sessionExpirySec, device }: Terms & { readonly device: DeviceCredentials },
  { taking }: ConnectionServices,
): Taken | Promise<Taken> {
  if (!taking.concerns(client, sessionExpirySec)) return { sessionPresent };
  return taking.take(client, {
    cleanStart,
    sessionExpirySec,
    sessionPresent,
    withinMs: connection.silence.refuseUntilMs - performance.now(),
    policy: () => connection.policy as Policy,
    device,
    isWanted: () => connection.isJoining,
    onWait: (waits) => connection.silence.onWait(waits),
  });
}

/** A session is not gone on with whose commands NATS refuses: the client is to subscribe again, and to be told so. */
async function mayGoOnWith(
  client: Client,
  connection: JoiningConnection,
  { session, registry }: ConnectionServices,
): Promise<boolean> {
  if (client.session?.lacksCommands !== true) return true;
  if (await awaitCommands(session.downlink, client.device.id)) return true;
  if (connection.isJoining) registry.discardSession(client);
  return false;
}
