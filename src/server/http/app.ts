import fastify, { type FastifyError, type FastifyReply, type FastifyRequest } from 'fastify';
import { includesRole } from '../../db/api-keys.js';
import type { Actor } from '../../db/audit.js';
import type { Log } from '../../log.js';
import type { CommandSender } from '../forward/commands/command-sender.js';
import type { Peeks } from '../forward/peek.js';
import type { ReplicaView } from '../live.js';
import { peerAddressOf } from '../peer-address.js';
import type { CertificateStore } from '../tls/certificate-store.js';
import type { AccessLevel, AccessSettings, Role } from './auth.js';
import { type Gate, nameCaller, openGate } from './gate.js';
import type { KeyDirectory } from './key-directory.js';
import type { HttpLimits } from './limits.js';
import { createLimitedServer } from './listener.js';
import {
  createProblem,
  describeFailure,
  invalidInput,
  ProblemError,
  refuseBytes,
  sendProblem,
} from './problem.js';
import type { Queries } from './queries.js';
import { logFailure, logRequest } from './request-log.js';
import { addApiKeyRoutes } from './resources/api-keys.js';
import { addAuditRoute } from './resources/audit.js';
import { addClaimRoutes } from './resources/claims.js';
import { addCommandRoutes, type CommandTopicProblem } from './resources/commands.js';
import { addConnectionRoutes } from './resources/connections.js';
import { addConsoleRoutes } from './resources/console.js';
import { addDeviceBulkRoutes } from './resources/device-bulk.js';
import { addDeviceRoutes } from './resources/devices.js';
import { addDocumentationRoutes, openSpecification } from './resources/docs.js';
import { addEventRoute } from './resources/events.js';
import { addHealthRoutes, type ReadReadiness } from './resources/health.js';
import { addMeRoute } from './resources/me.js';
import { addMessageRoute } from './resources/messages.js';
import { addMetricsRoute, type ReadMetrics } from './resources/metrics.js';
import { addPolicyRoutes } from './resources/policies.js';
import { addSessionRoutes } from './resources/sessions.js';
import { addStatsRoute } from './resources/stats.js';
import { describeMissingRoute, openRouteTable, type RouteTable, requireRoles } from './routes.js';
import { buildSerializer } from './serializer.js';
import type { TypedApp } from './typed-app.js';
import { compileValidator, describeFaults, parseBody } from './validate.js';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** What the route asks of who calls it; `protected` when it does not say. */
    access?: AccessLevel;
    /** The lowest role that may call a protected route, each of which has to say; `any`: every one. */
    role?: Role | 'any';
    /** The role that is enough for what the caller has made itself: the route looks at `request.madeBy`. */
    ownRole?: Role;
    /** No body is the same as an empty object. */
    bodyOptional?: boolean;
  }
  interface FastifyRequest {
    /** Who calls, as the audit log keeps it; only on protected routes. */
    actor: Actor;
    /** Names who calls, for what is counted: the id of a key, `API_TOKEN`, or `local`; only on protected routes. */
    caller: string;
    /** The role of who calls; only on protected routes. */
    role: Role;
    /** The id of the key whose things alone the caller may see; undefined: those of everybody. */
    madeBy: string | undefined;
  }
}

export interface AppOptions {
  readonly queries: Queries;
  readonly access: AccessSettings;
  readonly keyDirectory: KeyDirectory;
  /** Asked at every `GET /readyz`; no detail may hold a secret. */
  readonly readiness: ReadReadiness;
  readonly readMetrics: ReadMetrics;
  readonly view: ReplicaView;
  readonly topicProblem?: CommandTopicProblem | undefined;
  /** Undefined: there is no NATS to send commands by. */
  readonly commands?: CommandSender | undefined;
  /** Undefined: there is no NATS to follow messages in. */
  readonly peeks?: Peeks | undefined;
  /** Of this program, shown in the specification. */
  readonly version: string;
  readonly log: Log;
  readonly limits: HttpLimits;
  /** With them the API speaks HTTPS only. */
  readonly certificates?: CertificateStore | undefined;
}

/** Builds the API, ready for requests and not listening. */
export async function createApp(options: AppOptions): Promise<TypedApp> {
  const { log, limits, queries, keyDirectory } = options;
  const app: TypedApp = fastify({
    // The log lines are this program's own, with its event names and without request headers.
    logger: false,
    schemaController: { compilersFactory: { buildSerializer } },
    bodyLimit: limits.maxBodyBytes,
    routerOptions: { maxParamLength: limits.maxUrlBytes },
    // A request that arrives while the server closes is still answered, and its connection closed.
    return503OnClosing: false,
    serverFactory: (handler) => createLimitedServer(limits, options.certificates, handler),
    clientErrorHandler: refuseBytes,
    frameworkErrors: (error, _request, reply) => {
      sendProblem(reply, describeFailure(error, limits.maxBodyBytes));
    },
  });
  const routes = openRouteTable(app);
  const gate = openGate({ settings: options.access, keys: options.keyDirectory, log });
  app.addHook('onClose', async () => gate.close());
  app.setValidatorCompiler(compileValidator);
  readBodiesAsJson(app);
  answerFailures(app, routes, limits, log);
  app.decorateRequest('actor');
  app.decorateRequest('caller');
  app.decorateRequest('role');
  app.decorateRequest('madeBy', undefined);
  app.addHook('onRequest', async (request, reply) => {
    reply.headers(defaultHeaders);
    return admit({ options, gate, routes }, request, reply);
  });
  app.addHook('preValidation', async (request) => {
    const { bodyOptional } = request.routeOptions.config;
    if (bodyOptional === true && request.body === undefined) request.body = {};
  });
  app.addHook('onResponse', async (request, reply) => logRequest(log, request, reply));

  await openSpecification(app, options.version);
  addHealthRoutes(app, { readiness: options.readiness, timeoutMs: limits.readinessTimeoutMs, log });
  addMetricsRoute(app, options.readMetrics);
  const { connections, sessions, events, replica } = options.view;
  addConnectionRoutes(app, connections, limits.maxWaitingLists);
  addSessionRoutes(app, sessions);
  addEventRoute(app, { events, replica, limits, log });
  addStatsRoute(app, options.view);
  addDeviceRoutes(app, { devices: queries.devices, log });
  addCommandRoutes(app, {
    devices: queries.devices,
    commands: options.commands,
    topicProblem: options.topicProblem ?? (() => undefined),
    sent: options.view.commands,
    note: queries.noteCommand,
    log,
  });
  addMessageRoute(app, { devices: queries.devices, peeks: options.peeks, limits, log });
  addDeviceBulkRoutes(app, { devices: queries.devices, log, limits });
  addPolicyRoutes(app, { policies: queries.policies, log });
  addClaimRoutes(app, { claims: queries.claims, log });
  addApiKeyRoutes(app, { keys: queries.keys, onRevoked: (id) => keyDirectory.forget(id), log });
  addAuditRoute(app, queries.listAudit);
  addMeRoute(app);
  addConsoleRoutes(app);
  await addDocumentationRoutes(app);
  await app.ready();
  requireRoles(routes.list());
  return app;
}

const defaultHeaders = {
  'cache-control': 'no-store',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
};

/**
 * `curl -d` calls every body a form, and other callers name nothing or nonsense. Fastify chooses a parser by the
 * header, so the header is set to what the body is taken for.
 */
function readBodiesAsJson(app: TypedApp): void {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser(
    'application/json',
    { parseAs: 'buffer' },
    async (request: FastifyRequest, body: Buffer) => parseBody(body, request.routeOptions.schema?.body),
  );
  app.addHook('onRequest', async (request) => {
    request.raw.headers['content-type'] = 'application/json';
  });
}

/** Lets a request pass to its route, or answers it: before anything of its body is read. */
async function admit(
  parts: { options: AppOptions; gate: Gate; routes: RouteTable },
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply | undefined> {
  const { options, gate, routes } = parts;
  if (request.url.length > options.limits.maxUrlBytes) {
    const detail = `The address is over the limit of ${options.limits.maxUrlBytes} bytes`;
    return sendProblem(reply, createProblem('INPUT_INVALID', detail, { status: 414 }));
  }
  const { access = 'protected', role = 'operator', ownRole } = request.routeOptions.config;
  const admission = await gate.admit(
    access,
    request.is404 || role === 'any' ? undefined : role,
    { remoteAddress: peerAddressOf(request.socket), headers: request.headers },
    ownRole,
  );
  if ('refusal' in admission) {
    const { code, detail, suggestion, challenge, retryAfterSec } = admission.refusal;
    if (challenge !== undefined) reply.header('www-authenticate', challenge);
    if (retryAfterSec !== undefined) reply.header('retry-after', retryAfterSec);
    return sendProblem(reply, createProblem(code, detail, { suggestion }));
  }
  if (admission.caller !== undefined) {
    request.actor = admission.caller.actor;
    request.caller = nameCaller(admission.caller);
    request.role = admission.caller.role;
    // Without a key there is nothing that could be the caller's own: then nothing is found.
    if (role !== 'any' && !includesRole(admission.caller.role, role))
      request.madeBy = admission.caller.keyId ?? '';
    gate.hold(admission.caller, reply.raw);
  }
  return request.is404 ? sendMissingRoute(routes, request, reply) : undefined;
}

function sendMissingRoute(routes: RouteTable, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const { problem, allow } = describeMissingRoute(routes, request);
  if (allow !== undefined) reply.header('allow', allow);
  return sendProblem(reply, problem);
}

function answerFailures(app: TypedApp, routes: RouteTable, limits: HttpLimits, log: Log): void {
  app.setNotFoundHandler((request, reply) => sendMissingRoute(routes, request, reply));
  app.setErrorHandler((error: Error, request, reply) => {
    const { validation, validationContext } = error as Partial<FastifyError>;
    if (validation !== undefined) {
      const part = validationContext === 'querystring' ? 'query' : (validationContext ?? 'request');
      return sendProblem(reply, invalidInput(describeFaults(validation, part)).problem);
    }
    const problem = describeFailure(error, request.routeOptions.bodyLimit ?? limits.maxBodyBytes);
    if (error instanceof ProblemError && error.retryAfterSec !== undefined) {
      reply.header('retry-after', error.retryAfterSec);
    }
    if (problem.status >= 500) logFailure(log, request, problem, error);
    // Fastify cuts the connection when it refuses a body, which can destroy the answer on its way. What still
    // comes is read and discarded instead, for as long as a request may take.
    if (problem.status === 413) reply.removeHeader('connection');
    return sendProblem(reply, problem);
  });
}
