import { toClaimJson, toNewClaimJson } from '../../../api/claim.js';
import {
  ClaimListQuery,
  ClaimPage,
  ClaimParams,
  ClaimResponse,
  NewClaimRequest,
  NewClaimResponse,
  RedeemRequest,
} from '../../../api/claim-schema.js';
import { toNewDeviceJson } from '../../../api/device.js';
import { NewDeviceResponse } from '../../../api/device-schema.js';
import { refer } from '../../../api/schema.js';
import { checkMetadata } from '../../../db/devices/device-fields.js';
import { SvcMqttError } from '../../../errors.js';
import { type Log, limitLog } from '../../../log.js';
import { addressGroup, peerAddressOf } from '../../peer-address.js';
import { createTokenBuckets } from '../../token-buckets.js';
import { nameField, requireTime } from '../fields.js';
import { answer, answerDone, answerMade, listPublicProblems, operation } from '../operation.js';
import { readPage } from '../paging.js';
import { invalidInput, ProblemError, tooManyRequests } from '../problem.js';
import type { Queries } from '../queries.js';
import { logFor } from '../request-log.js';
import type { TypedApp } from '../typed-app.js';

interface Options {
  readonly claims: Queries['claims'];
  readonly log: Log;
}

const tags = ['claims'];
const dayMs = 86_400_000;
/** Failed attempts of one address: this many at once, and then one every six seconds. */
const failures = { capacity: 20, perSecond: 1 / 6, maxKeys: 10_000 };

/** Adds the routes of the claims. */
export function addClaimRoutes(app: TypedApp, options: Options): void {
  for (const schema of [ClaimResponse, NewClaimResponse, ClaimPage]) app.addSchema(schema);
  addOperatorRoutes(app, options);
  addRedemptionRoute(app, options);
}

function addOperatorRoutes(app: TypedApp, { claims, log }: Options): void {
  app.post(
    '/claims',
    operation('operator', {
      tags,
      operationId: 'createClaim',
      summary: 'Make a claim',
      description: 'Makes a claim, with which a number of devices can get their own credentials, each once.',
      body: NewClaimRequest,
      response: answerMade(NewClaimResponse, 'The claim, with its text', 400, 413),
    }),
    async (request, reply) => {
      const { type, uses = 1, expires_at: expiry } = request.body;
      const expiresAt =
        expiry === undefined ? new Date(Date.now() + dayMs) : requireTime('expires_at', expiry);
      const claim = await claims.create(request.actor, { type, uses, expiresAt }).catch((error: unknown) => {
        throw nameField(error);
      });
      logFor(log, request).info(
        { event: 'claim_created', claim: claim.id, actor: request.actor.name },
        'A claim was made',
      );
      return reply.code(201).send(toNewClaimJson(claim));
    },
  );

  app.get(
    '/claims',
    operation('operator', {
      tags,
      operationId: 'listClaims',
      summary: 'List claims',
      description: 'Lists claims in order of id, a page at a time, without their secrets.',
      querystring: ClaimListQuery,
      response: answer(ClaimPage, 'One page', 400),
    }),
    async (request, reply) => {
      const { state = 'active' } = request.query;
      const { page, next } = await readPage(
        request.query,
        (place) => claims.list({ state, ...place }),
        ({ id }) => id,
      );
      return reply.code(200).send({ claims: page.map(toClaimJson), next_cursor: next });
    },
  );

  app.delete(
    '/claims/:id',
    operation('operator', {
      tags,
      operationId: 'revokeClaim',
      summary: 'Revoke a claim',
      description: 'The claim makes no further device; those that it has made stay.',
      params: ClaimParams,
      response: answerDone('The claim is revoked', 400, 404),
    }),
    async (request, reply) => {
      const { id } = request.params;
      const outcome = await claims.revoke(request.actor, id);
      if (outcome === 'unknown')
        throw new ProblemError('CLAIM_NOT_FOUND', `There is no claim with the id ${JSON.stringify(id)}`);
      if (outcome === 'revoked') {
        logFor(log, request).info(
          { event: 'claim_revoked', claim: id, actor: request.actor.name },
          'A claim was revoked',
        );
      }
      return reply.code(204).send(null);
    },
  );
}

/**
 * The one route for devices. The claim is what lets them in, so it is answered to every address, whatever the rest of
 * the API asks for.
 */
function addRedemptionRoute(app: TypedApp, { claims, log }: Options): void {
  const failed = createTokenBuckets(failures);
  const limitedLog = limitLog(log);
  app.addHook('onClose', async () => limitedLog.close());
  app.post(
    '/claims/redeem',
    {
      config: { access: 'public' },
      schema: {
        tags,
        security: [],
        operationId: 'redeemClaim',
        summary: 'Get credentials by a claim',
        description:
          'For devices: makes a device of the type of the claim and answers its credentials, once. Needs no key and is answered to every address. 404: there is no such claim. 410: it is spent, expired or revoked.',
        body: RedeemRequest,
        response: {
          200: refer(NewDeviceResponse, { description: 'The device, with its password' }),
          ...listPublicProblems(400, 404, 410, 413),
        },
      },
    },
    async (request, reply) => {
      const address = peerAddressOf(request.socket);
      const key = addressGroup(address);
      // Only a failure counts: many devices may come by one address, and at once.
      const waitMs = failed.wait(key);
      if (waitMs > 0) {
        throw tooManyRequests(
          'There were too many failed attempts from this address; try again later',
          waitMs,
        );
      }
      const { claim, metadata } = request.body;
      const fault = metadata === undefined ? undefined : checkMetadata(metadata);
      if (fault !== undefined) throw invalidInput([fault]);
      const device = await claims.redeem({ claim, metadata, address }).catch((error: unknown) => {
        const code = error instanceof SvcMqttError ? error.code : undefined;
        if (code === 'CLAIM_NOT_FOUND' || code === 'CLAIM_GONE') {
          failed.take(key);
          const fields = { code, remoteAddress: request.ip };
          limitedLog.warn('claim_refused', fields, 'A claim that makes no device was shown');
        }
        throw error;
      });
      log.info(
        { event: 'claim_redeemed', device: device.id, type: device.type, remoteAddress: request.ip },
        'A device got its credentials by a claim',
      );
      return reply.code(200).send(toNewDeviceJson(device));
    },
  );
}
