import Type from 'typebox';
import { maxAnswerWithinSec, maxCommandTopicLength } from './constants.js';
import { closed, orNull } from './schema.js';

/** What `POST /devices/{id}/commands` takes. */
export const CommandRequest = Type.Object(
  {
    topic: Type.String({
      minLength: 1,
      maxLength: maxCommandTopicLength,
      pattern: '^[^+#\\u0000]+$',
      description: 'What follows `cmd/<id>/` in the topic, without wildcards',
      examples: ['fan/speed'],
    }),
    payload: Type.Optional(Type.String({ description: 'The payload as text', examples: ['900'] })),
    payload_base64: Type.Optional(
      Type.String({ pattern: '^[A-Za-z0-9+/]*={0,2}$', description: 'The payload, in place of `payload`' }),
    ),
    expires_in_seconds: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 4_294_967_295,
        description: 'A device that comes later does not get it; not with `wait_seconds`',
      }),
    ),
    wait_seconds: Type.Optional(
      Type.Number({
        minimum: 0.1,
        maximum: maxAnswerWithinSec,
        description:
          'Asks the device, which has to be connected, and waits so long for its answer; nothing is stored',
      }),
    ),
    ack: Type.Optional(
      Type.Boolean({ description: 'With `wait_seconds`: that the device has acknowledged it is the answer' }),
    ),
  },
  { $id: 'CommandRequest', ...closed, examples: [{ topic: 'fan/speed', payload: '900' }] },
);

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
