/** Examples of each command, as the help and `docs/cli.md` show them. */
export const examples: Readonly<Record<string, readonly string[]>> = {
  serve: [
    'svc-mqtt serve',
    'DATABASE_URL=postgres://svc:secret@db/svc NATS_URL=nats://nats:4222 svc-mqtt serve',
    'svc-mqtt serve --config /etc/svc-mqtt.yaml --log-level debug',
  ],
  top: [
    'svc-mqtt top',
    'API_KEY_FILE=key svc-mqtt top --url https://gateway.example:9091',
    "svc-mqtt top --once --json --sort in_flight | jq '.connections[0]'",
  ],
  login: [
    'svc-mqtt login https://gateway.example:9091',
    'cat key | svc-mqtt login https://gateway.example --name prod',
  ],
  logout: ['svc-mqtt logout'],
  context: ['svc-mqtt context', 'svc-mqtt context prod', 'svc-mqtt context local'],
  'connection list': [
    'svc-mqtt connection list --filter sensor --sort in_flight',
    'svc-mqtt connection list --limit 100000 --json | jq -r .device',
  ],
  'connection show': ['svc-mqtt connection show 5f21c0-1a'],
  'session list': [
    'svc-mqtt session list --device roof-7',
    'svc-mqtt session list --limit 100000 --json | jq -r .id',
  ],
  'session show': ['svc-mqtt session show roof-7.pump-1'],
  'session end': ['svc-mqtt session end roof-7.pump-1', 'svc-mqtt session end --device roof-7 --yes'],
  'connection kick': [
    'svc-mqtt connection kick 5f21c0-1a 5f21c0-2f',
    'svc-mqtt connection kick --device roof-7 --yes',
  ],
  'device add': [
    'svc-mqtt device add --type sensor',
    'svc-mqtt device add --type sensor --count 1000 --json > credentials.jsonl',
    'svc-mqtt device add --type sensor --id roof-7 --metadata site=berlin --expires 90d',
  ],
  'device list': [
    'svc-mqtt device list --type sensor --metadata site=berlin',
    'svc-mqtt device list --sort last_seen --limit 20',
    'svc-mqtt device list --all --json',
  ],
  'device show': ['svc-mqtt device show roof-7'],
  'device set': ['svc-mqtt device set roof-7 --metadata site=bonn --unset room --expires never'],
  'device rotate': [
    'svc-mqtt device rotate roof-7',
    'svc-mqtt device rotate roof-7 --grace 24h --until-used',
  ],
  'device revoke': [
    'svc-mqtt device revoke roof-7',
    'svc-mqtt device list --type sensor --json | jq -r .id | svc-mqtt device revoke - --yes',
  ],
  'device remove': [
    'svc-mqtt device remove roof-7',
    'svc-mqtt device list --revoked --json | jq -r .id | svc-mqtt device remove - --yes',
  ],
  'device enable': ['svc-mqtt device enable roof-7'],
  'device command': [
    'svc-mqtt device command roof-7 17',
    'svc-mqtt device command roof-7 17 --wait 10m --json | jq -r .state',
  ],
  'device send': [
    'svc-mqtt device send roof-7 fan/speed 900 --expires 1h',
    'svc-mqtt device send roof-7 state --wait 5s',
    'svc-mqtt device send --type sensor --metadata site=berlin --yes interval 60',
  ],
  'device import': [
    'svc-mqtt device import devices.csv --output credentials.csv',
    'svc-mqtt device import backup.jsonl --hashed --continue --report refused.csv',
  ],
  'device export': [
    'svc-mqtt device export --type sensor > sensors.csv',
    'svc-mqtt device export --hashed --output backup.jsonl',
  ],
  'policy list': ['svc-mqtt policy list'],
  'policy show': ['svc-mqtt policy show sensor'],
  'policy set': [
    "svc-mqtt policy set sensor --publish 'raw/{id}/#' --subscribe 'cmd/{id}/#' --publish-rate 10",
    'svc-mqtt policy set sensor --no-subscribe --default publish-rate',
  ],
  'policy remove': ['svc-mqtt policy remove sensor'],
  'claim create': ['svc-mqtt claim create --type sensor --uses 100 --expires 7d'],
  'claim list': ['svc-mqtt claim list'],
  'claim revoke': ['svc-mqtt claim revoke 4kq2m7xw'],
  'api-key create': [
    'svc-mqtt api-key create --name ci --role provisioner --expires 90d',
    'svc-mqtt api-key create --name dashboard --role viewer --json',
  ],
  'api-key list': ['svc-mqtt api-key list'],
  'api-key revoke': ['svc-mqtt api-key revoke ci'],
  audit: ['svc-mqtt audit --device roof-7 --since 2d', 'svc-mqtt audit --limit 1000 --json'],
  migrate: ['svc-mqtt migrate --dry-run', 'svc-mqtt migrate'],
  'tail-nats': [
    'svc-mqtt tail-nats',
    'svc-mqtt tail-nats --device roof-7 --since 10m',
    'svc-mqtt tail-nats raw.roof-7 --count 1 --timeout 30s --json',
  ],
  'config print': ['svc-mqtt config print --changed', 'svc-mqtt config print --json --config svc-mqtt.yaml'],
  'config example': ['svc-mqtt config example > svc-mqtt.yaml'],
  doctor: ['svc-mqtt doctor', 'svc-mqtt doctor --no-message --json'],
  setup: ['svc-mqtt setup'],
  completion: ['source <(svc-mqtt completion bash)'],
};
