import Type from 'typebox';
import { eventKinds } from './constants.js';
import { closed, optional, time } from './schema.js';

export const FleetEventResponse = Type.Object(
  {
    number: Type.Number({ description: 'Numbered since the start of the replica' }),
    at: time('When it happened'),
    kind: Type.Enum([...eventKinds], {
      type: 'string',
      description:
        'connected; disconnected; refused: a CONNECT was turned away; revoked: a device lost the right to be connected; dropped: messages were',
    }),
    ...optional({
      replica: Type.String({
        description: 'The replica that it happened on; `GET /stats` leaves it out of its own',
      }),
      device: Type.String({ description: 'Device id, or the user name given' }),
      client: Type.String({ description: 'Client id' }),
      address: Type.String({ description: 'Address and port of the peer' }),
      connection: Type.String({ description: 'Id of the connection' }),
      protocol: Type.String({ description: 'Version of MQTT of a client that connected' }),
      reason: Type.String({ description: 'Why, as a word', examples: ['keepalive-timeout'] }),
      code: Type.Number({
        description: 'What the client was told: the code of CONNACK, or of DISCONNECT of MQTT 5',
        examples: [0x98],
      }),
      count: Type.Number({ description: 'How many connections or messages' }),
    }).properties,
  },
  { $id: 'FleetEvent', ...closed },
);

export const EventQuery = optional({
  kind: Type.Enum([...eventKinds], { type: 'string', description: 'Only events of this kind' }),
  device: Type.String({ minLength: 1, description: 'Only events of this device' }),
  replica: Type.String({ minLength: 1, description: 'Only events of this replica' }),
});
