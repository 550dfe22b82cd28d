import Type from 'typebox';
import { roles } from '../db/api-keys.js';
import { closed } from './schema.js';

const role = { type: 'string' };

export const MeResponse = Type.Object(
  {
    kind: Type.String({
      description: '`api-key`; `api-token`; `local`: nothing was shown, and nothing is asked for',
      examples: ['api-key'],
    }),
    name: Type.String({ description: "The key's name, `API_TOKEN` or `local`", examples: ['ci'] }),
    role: Type.Enum([...roles], { ...role, description: 'The role' }),
    may: Type.Array(Type.Enum([...roles], role), {
      description: 'The roles whose rights it has, its own among them',
    }),
  },
  { $id: 'Me', ...closed },
);
