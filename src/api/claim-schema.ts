import Type from 'typebox';
import { maxClaimUses } from '../db/devices/claims.js';
import { fieldPatterns, maxDeviceTypeLength, maxMetadataKeys } from '../db/devices/device-fields.js';
import {
  closed,
  metadataField,
  metadataValue,
  optional,
  page,
  pageQuery,
  refer,
  time,
  timeField,
  timeOrNull,
} from './schema.js';

const id = Type.String({ minLength: 1, description: "The claim's id", examples: ['k2v7q4mzt6xw3hba'] });
const type = Type.String({
  minLength: 1,
  maxLength: maxDeviceTypeLength,
  description: 'The type of the devices that it makes',
  examples: ['sensor'],
});
const uses = Type.Integer({
  minimum: 1,
  maximum: maxClaimUses,
  description: 'How many devices it can make in all',
});
const claim = Type.String({
  minLength: 1,
  maxLength: 256,
  description: 'The text that a device shows: a secret',
});

export const NewClaimRequest = Type.Object(
  {
    type: Type.String({ ...type, pattern: fieldPatterns.newType }),
    uses: Type.Optional(Type.Integer({ ...uses, default: 1 })),
    expires_at: Type.Optional(timeField('When it ends, within ten years; a day from now unless given')),
  },
  { $id: 'NewClaimRequest', ...closed, examples: [{ type: 'sensor', uses: 100 }] },
);

const claimFields = {
  id,
  type,
  state: Type.Enum(['active', 'spent', 'expired', 'revoked'], {
    description: 'active: it can still make a device',
  }),
  uses,
  uses_left: Type.Integer({ minimum: 0, description: 'How many devices it can still make' }),
  created_at: time('When it was made'),
  expires_at: time('When it ends'),
  revoked_at: timeOrNull('When it was revoked'),
};

export const ClaimResponse = Type.Object(claimFields, { $id: 'Claim', ...closed });

export const NewClaimResponse = Type.Object(
  { ...claimFields, claim },
  {
    $id: 'NewClaim',
    description: 'The claim, with its text, which is shown here and never again',
    ...closed,
  },
);

export const ClaimPage = page('ClaimPage', { claims: Type.Array(refer(ClaimResponse)) });

export const ClaimParams = Type.Object({ id });

export const ClaimListQuery = optional({
  state: Type.Enum(['active', 'all'], { description: 'Only claims in this state', default: 'active' }),
  ...pageQuery('claims'),
});

export const RedeemRequest = Type.Object(
  {
    claim,
    metadata: Type.Optional(
      metadataField(metadataValue, {
        maxProperties: maxMetadataKeys,
        description: 'What is to be noted about the device, such as a serial number; no secret',
      }),
    ),
  },
  { $id: 'RedeemRequest', ...closed },
);
