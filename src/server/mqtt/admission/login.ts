import type { Config } from '../../../config.js';
import type { DeviceCredentials } from '../../../db/devices/device-credentials.js';
import type { LimitedLog } from '../../../log.js';
import type { DeviceDirectory } from '../../directory/device-directory.js';
import { shortenText } from '../../live.js';
import { addressGroup } from '../../peer-address.js';
import type { BrokerCounters } from '../live/counters.js';
import type { CloseReason } from '../protocol/close-reason.js';
import type { Connect, Will } from '../protocol/codec.js';
import { readIdentity } from '../protocol/read-connect.js';
import { checkTopicSize, type TopicLimits } from '../protocol/topics.js';
import { bytesOf } from '../sessions/delivery/message.js';
import type { AcceptedSocket } from '../transport/accepted-socket.js';
import {
  type Authenticated,
  type Authentication,
  authenticate,
  isGiven,
  problemOf,
  type Refusal,
} from './authenticate.js';
import type { Policy } from './authorize.js';
import type { LoginGuard } from './login-guard.js';

const maxClientIdBytes = 1_024;

/** What a login asks. */
export interface LoginServices {
  readonly config: Pick<Config, 'mqttClientCert' | 'maxWillBytes'>;
  readonly directory: DeviceDirectory;
  readonly loginGuard: LoginGuard;
  readonly counters: BrokerCounters;
  readonly log: LimitedLog;
  readonly topicLimits: TopicLimits;
  policyOf(device: DeviceCredentials): Policy;
}

/** A client that may in. */
export interface Login extends Authenticated {
  readonly policy: Policy;
}

/** The refusal of a CONNECT that cannot be used, undefined when it can. */
export function checkConnect(
  connect: Connect | CloseReason,
  packet: Buffer,
  bodyOffset: number,
): Refusal | undefined {
  const refused = typeof connect === 'string' ? connect : checkFields(connect);
  if (refused === undefined) return undefined;
  return { refused, fields: describeConnect(readIdentity(packet, bodyOffset)) };
}

function checkFields({ clientId, authenticationMethod }: Connect): CloseReason | undefined {
  if (Buffer.byteLength(clientId) > maxClientIdBytes) return 'identifier-rejected';
  return authenticationMethod === undefined ? undefined : 'auth-method';
}

/**
 * Decides whether a client may in: who it is, unless it guessed too often before, and whether its will may be.
 *
 * @param untilMs `performance.now()` until which the database is waited for.
 */
export async function logIn(
  connect: Connect,
  accepted: AcceptedSocket,
  services: LoginServices,
  untilMs: number,
): Promise<Login | Refusal> {
  const authentication = await identify(connect, accepted, services, untilMs).catch((error: unknown) => {
    const text = 'A look-up failed; the client is told to come back';
    services.log.error('authentication_failed', { err: error }, text);
    return { refused: 'database-away' } as const;
  });
  if ('refused' in authentication) {
    const { userName } = connect;
    const user = userName === undefined ? undefined : shortenText(userName);
    const { certificate } = accepted;
    const problem = certificate === undefined ? undefined : problemOf(certificate);
    const identity = describeConnect({ protocolLevel: connect.version, clientId: connect.clientId });
    const names = certificate?.names.map(shortenText);
    return { ...authentication, fields: { ...identity, user, certificate: names, problem } };
  }
  const { device, secret } = authentication;
  const policy = services.policyOf(device);
  const { will } = connect;
  const willProblem = will === undefined ? undefined : checkWill(will, policy, services);
  if (will === undefined || willProblem === undefined) return { device, secret, policy };
  return {
    refused: willProblem,
    fields: {
      device: device.id,
      ...describeConnect({ protocolLevel: connect.version, clientId: connect.clientId }),
      topic: shortenText(will.topic),
    },
  };
}

/** Which client was refused, for the log. */
function describeConnect({ protocolLevel, clientId }: ReturnType<typeof readIdentity>) {
  return { protocolLevel, client: clientId === undefined ? undefined : shortenText(clientId) };
}

async function identify(
  connect: Connect,
  { certificate, remoteAddress }: AcceptedSocket,
  { directory, loginGuard, config, counters }: LoginServices,
  untilMs: number,
): Promise<Authentication> {
  const claims = isGiven(connect.userName) ? [connect.userName] : (certificate?.names ?? []);
  const address = addressGroup(remoteAddress);
  const limit = loginGuard.check(claims, address);
  if (limit !== undefined) {
    counters.limits[limit] += 1;
    return { refused: 'too-many-failed-logins' };
  }
  const find = (id: string) => directory.find(id, untilMs);
  const authentication = await authenticate(connect, find, { certificate, rule: config.mqttClientCert });
  if ('refused' in authentication) loginGuard.onRefused(claims, address, authentication.refused);
  else loginGuard.onSuccess(authentication.device.id, address);
  return authentication;
}

/** Each connection keeps its will until it ends, so a will has bounds of its own. */
function checkWill(
  will: Will,
  policy: Policy,
  { config, topicLimits }: LoginServices,
): CloseReason | undefined {
  const sizeProblem = checkTopicSize(will.topic, topicLimits);
  if (sizeProblem !== undefined) return sizeProblem;
  const bytes = bytesOf(will) - will.topic.length + Buffer.byteLength(will.topic);
  if (bytes > config.maxWillBytes) return 'will-too-large';
  return policy.mayPublish(will.topic) ? undefined : 'will-denied';
}
