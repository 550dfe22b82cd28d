import Type from 'typebox';
import { commandStates, sessionCommandStates } from '../command-state.js';
import { ReplicaResponse } from './connection-schema.js';
import { maxAnswerWithinSec, maxCommandTopicLength } from './constants.js';
import { DeviceParams } from './device-schema.js';
import { closed, count, optional, orNull, refer, time, timeOrNull } from './schema.js';

/** What `POST /devices/{id}/commands` takes. */
export const CommandRequest = Type.Object(
  {
    topic: Type.String({
      minLength: 1,
      maxLength: maxCommandTopicLength,
      pattern: '^[^+#\\u0000\\p{Cs}]+$',
      description: 'What follows `cmd/<id>/` in the topic, without wildcards',
      examples: ['fan/speed'],
    }),
    ...optional({
      payload: Type.String({ pattern: '^\\P{Cs}*$', description: 'The payload as text', examples: ['900'] }),
      payload_base64: Type.String({
        pattern: '^[A-Za-z0-9+/]*={0,2}$',
        description: 'The payload, in place of `payload`',
      }),
      expires_in_seconds: Type.Integer({
        minimum: 1,
        maximum: 4_294_967_295,
        description: 'A device that comes later does not get it; not with `wait_seconds`',
      }),
      wait_seconds: Type.Number({
        minimum: 0.1,
        maximum: maxAnswerWithinSec,
        description:
          'Asks the device, which has to be connected, and waits so long for its answer; nothing is stored',
      }),
      qos: Type.Unsafe<0 | 1>({
        type: 'integer',
        minimum: 0,
        maximum: 1,
        description:
          'Largest QoS with which it is sent, default 1; a client that has subscribed with QoS 0 gets it with 0',
      }),
      ack: Type.Boolean({
        description: 'With `wait_seconds`: that the device has acknowledged it is the answer',
      }),
    }).properties,
  },
  { $id: 'CommandRequest', ...closed, examples: [{ topic: 'fan/speed', payload: '900' }] },
);

const qos = (description: string) => Type.Union([Type.Literal(0), Type.Literal(1)], { description });

const stateOf = <State extends string>(states: readonly State[], description: string) =>
  Type.Unsafe<State>({ type: 'string', enum: [...states], description });

/** What each state means, for the specification. */
const meanings = [
  '`acknowledged`: the client has acknowledged it',
  '`sent`: it was sent and not acknowledged yet; for good where it goes with QoS 0, which nobody acknowledges',
  '`queued`: it waits for the client, which is away or busy',
  '`unknown`: the session is past it, too long ago to say how; or its record, or a replica, cannot be asked',
  '`refused`: the client answered that it does not take it, or takes no packet so large',
  '`expired`: its time was over before the client acknowledged it, so that it is not sent any more',
].join('; ');

export const CommandProgressResponse = Type.Object(
  {
    device: Type.String({ description: 'Id of the device' }),
    stream: Type.String({ description: 'The stream that has it' }),
    sequence: Type.Integer({ minimum: 1, description: 'Its sequence there' }),
    topic: Type.String({ description: 'The topic on which the device gets it' }),
    bytes: count('Length of its payload'),
    qos: qos('The largest QoS with which it is sent'),
    stored_at: time('When it was stored, by the clock of NATS'),
    expires_at: timeOrNull('A client that comes later does not get it; null: it does not expire'),
    state: stateOf(
      commandStates,
      `The first of these that a session of the device has. ${meanings}; \`unclaimed\`: no session of the device takes it: none had subscribed to its topic when it was stored, or the client had none that outlives its connection`,
    ),
    sessions: Type.Array(
      Type.Object(
        {
          client: Type.String({ description: 'Client id' }),
          state: stateOf(sessionCommandStates, `As \`state\` of the command. ${meanings}`),
          qos: qos('QoS with which this client gets it'),
          connected: Type.Boolean({ description: 'The client is connected, to some replica' }),
          replica: orNull(Type.String(), {
            description:
              'The replica that says so; null: the record of the session does, which may be a second behind',
          }),
        },
        closed,
      ),
      { description: 'Those that take it, by client id; shared subscriptions do not count' },
    ),
    replicas: Type.Array(refer(ReplicaResponse), { description: 'The replicas that were asked' }),
  },
  { $id: 'CommandProgress', ...closed },
);

/** The path of one command. */
export const CommandParams = Type.Object({
  ...DeviceParams.properties,
  sequence: Type.Integer({
    minimum: 1,
    maximum: Number.MAX_SAFE_INTEGER,
    description: 'Its sequence, as the answer to sending it told',
  }),
});

export const CommandResponse = Type.Object(
  {
    device: Type.String({ description: 'Id of the device' }),
    topic: Type.String({ description: 'The topic on which the device gets it' }),
    stored: orNull(Type.Object({ stream: Type.String(), sequence: Type.Integer({ minimum: 1 }) }, closed), {
      description:
        'Where it is stored until the device has it; null: nowhere, only clients that are connected get it',
    }),
    answer: orNull(
      Type.Object(
        {
          by: Type.Enum(['reply', 'ack'], {
            type: 'string',
            description: 'What the device published, or its acknowledgement',
          }),
          payload: orNull(Type.String(), { description: 'As text; null: it is none' }),
          payload_base64: Type.String({ description: 'As it is' }),
        },
        closed,
      ),
      { description: 'What the device answered; null: it was not asked' },
    ),
  },
  { $id: 'Command', ...closed },
);
