import { toPolicyJson } from '../../../api/policy.js';
import {
  PolicyChangesRequest,
  PolicyListQuery,
  PolicyPage,
  PolicyParams,
  PolicyRequest,
  PolicyResponse,
  SetPolicyResponse,
} from '../../../api/policy-schema.js';
import { checkDeviceType } from '../../../db/devices/device-fields.js';
import type { Log } from '../../../log.js';
import { checkPolicy, defaultRules, type PolicyRules, readRulesJson } from '../../../policy.js';
import { answer, answerDone, operation } from '../operation.js';
import { readPage } from '../paging.js';
import { invalidInput, ProblemError } from '../problem.js';
import type { Queries } from '../queries.js';
import { logFor } from '../request-log.js';
import type { TypedApp } from '../typed-app.js';

interface Options {
  readonly policies: Queries['policies'];
  readonly log: Log;
}

const tags = ['policies'];

/** Adds the routes of the policies. */
export function addPolicyRoutes(app: TypedApp, options: Options): void {
  for (const schema of [PolicyResponse, SetPolicyResponse, PolicyPage]) app.addSchema(schema);
  addReadingRoutes(app, options.policies);
  addChangingRoutes(app, options);
}

function addReadingRoutes(app: TypedApp, policies: Queries['policies']): void {
  app.get(
    '/policies',
    operation('viewer', {
      tags,
      operationId: 'listPolicies',
      summary: 'List policies',
      description: 'Lists policies in order of type, a page at a time. Other types have the default.',
      querystring: PolicyListQuery,
      response: answer(PolicyPage, 'One page', 400),
    }),
    async (request, reply) => {
      const { page, next } = await readPage(request.query, policies.list, ({ type }) => type);
      return reply.code(200).send({ policies: page.map(toPolicyJson), next_cursor: next });
    },
  );
  app.get(
    '/policies/:type',
    operation('viewer', {
      tags,
      operationId: 'getPolicy',
      summary: 'Show a policy',
      description: 'Shows the policy of a device type. A type without one has the default.',
      params: PolicyParams,
      response: answer(PolicyResponse, 'The policy', 400, 404),
    }),
    async (request, reply) => {
      const { type } = request.params;
      const policy = await policies.find(type);
      if (policy === undefined) throw unknown(type);
      return reply.code(200).send(toPolicyJson(policy));
    },
  );
}

function addChangingRoutes(app: TypedApp, { policies, log }: Options): void {
  app.put(
    '/policies/:type',
    operation('operator', {
      tags,
      operationId: 'setPolicy',
      summary: 'Set a policy',
      description:
        'Sets what devices of a type may do, whole: what the body leaves out is the default. Connected devices are under it within a second.',
      params: PolicyParams,
      body: PolicyRequest,
      response: answer(SetPolicyResponse, 'The policy, with warnings', 400, 413),
    }),
    async (request, reply) => {
      const { type } = request.params;
      const rules: PolicyRules = { ...defaultRules, ...readRulesJson(request.body) };
      requireSound(type, rules);
      const policy = await policies.set(request.actor, { type, ...rules });
      logFor(log, request).info({ event: 'policy_set', type, actor: request.actor.name }, 'A policy was set');
      const warnings = await policies.risksOf(rules);
      return reply.code(200).send({ ...toPolicyJson(policy), warnings });
    },
  );
  app.patch(
    '/policies/:type',
    operation('operator', {
      tags,
      operationId: 'changePolicy',
      summary: 'Change a policy',
      description:
        'Changes some of what devices of a type may do; a type without a policy gets one. Connected devices are under it within a second.',
      params: PolicyParams,
      body: PolicyChangesRequest,
      response: answer(SetPolicyResponse, 'The policy as it is now, with warnings', 400, 413),
    }),
    async (request, reply) => {
      const { type } = request.params;
      const changes = readRulesJson(request.body);
      requireSound(type, { ...defaultRules, ...changes });
      const { after } = await policies.change(request.actor, type, changes);
      logFor(log, request).info({ event: 'policy_set', type, actor: request.actor.name }, 'A policy was set');
      const warnings = await policies.risksOf(after);
      return reply.code(200).send({ ...toPolicyJson(after), warnings });
    },
  );
  app.delete(
    '/policies/:type',
    operation('operator', {
      tags,
      operationId: 'removePolicy',
      summary: 'Remove a policy',
      description: 'Devices of the type have the default again, within a second.',
      params: PolicyParams,
      response: answerDone('There is no policy now', 400, 404),
    }),
    async (request, reply) => {
      const { type } = request.params;
      if (!(await policies.remove(request.actor, type))) throw unknown(type);
      logFor(log, request).info(
        { event: 'policy_removed', type, actor: request.actor.name },
        'A policy was removed',
      );
      return reply.code(204).send(null);
    },
  );
}

function requireSound(type: string, rules: PolicyRules): void {
  const typeProblem = checkDeviceType(type);
  const faults = [
    ...(typeProblem === undefined ? [] : [{ field: 'type', problem: typeProblem }]),
    ...checkPolicy(rules),
  ];
  if (faults.length > 0) throw invalidInput(faults);
}

function unknown(type: string): ProblemError {
  const detail = `The type ${JSON.stringify(type)} has no policy of its own; its devices have the default`;
  return new ProblemError('POLICY_NOT_FOUND', detail);
}
