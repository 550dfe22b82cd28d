import Type from 'typebox';
import { closed } from './schema.js';

export const FieldProblem = Type.Object(
  {
    field: Type.String({ description: 'The field or parameter; `body` for the body as a whole' }),
    problem: Type.String({ description: 'What is wrong with it, in words that follow its name' }),
  },
  closed,
);

/** An error as RFC 9457 problem details, with the error's code and, for bad input, each field at fault. */
export const Problem = Type.Object(
  {
    type: Type.String({
      format: 'uri',
      description: 'Identifies the kind of problem: `urn:svc-mqtt:error:` and the code',
    }),
    title: Type.String({ description: 'The kind of problem, the same for every occurrence' }),
    status: Type.Integer({ description: 'The HTTP status' }),
    detail: Type.String({ description: 'What happened this time' }),
    suggestion: Type.Optional(
      Type.String({ description: 'What to do about it, where `detail` does not say so already' }),
    ),
    code: Type.String({ description: 'The code of the error, stable between releases' }),
    errors: Type.Optional(Type.Array(FieldProblem, { description: 'Each field or parameter at fault' })),
  },
  {
    $id: 'Problem',
    description: 'An error, as RFC 9457 problem details',
    examples: [
      {
        type: 'urn:svc-mqtt:error:INPUT_INVALID',
        title: 'The request is invalid',
        status: 400,
        detail: 'type is missing',
        code: 'INPUT_INVALID',
        errors: [{ field: 'type', problem: 'is missing' }],
      },
      {
        type: 'urn:svc-mqtt:error:DEVICE_EXISTS',
        title: 'The device exists already',
        status: 409,
        detail: 'A device with the id roof-7 exists already',
        suggestion: 'Choose another id, or leave it out to have one generated',
        code: 'DEVICE_EXISTS',
      },
    ],
  },
);
