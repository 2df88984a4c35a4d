// emmett-postgresql under the same load as the product: one event of the same payload to a stream of
// its own, or to one that exists. It is told what to do line by line, as every peer is:
//
//     peer DATABASE_URL POOL STREAMS PAYLOAD     sets up STREAMS streams, prints {"ready":true}
//     new|existing CALLERS SECONDS               works, prints {"operations", "seconds", "p50_us", "p99_us"}

import { randomUUID } from 'node:crypto';
import { createInterface } from 'node:readline';
import { CommandHandler } from '@event-driven-io/emmett';
import { getPostgreSQLEventStore } from '@event-driven-io/emmett-postgresql';
import pg from 'pg';

const [url, connections, streamCount, payload] = process.argv.slice(2);
const pool = new pg.Pool({ connectionString: url, max: Number(connections) });
const store = getPostgreSQLEventStore(url, { connectionOptions: { pool } });
await store.schema.migrate();

const data = JSON.parse(payload);
// Loads the stream, folds it, decides, appends with the version it saw: what its users call.
const handle = CommandHandler({
  initialState: () => ({ events: 0 }),
  evolve: (state) => ({ events: state.events + 1 }),
});
const append = (stream) => handle(store, stream, () => ({ type: 'session.started', data }));

const say = (document) => console.log(JSON.stringify(document));
const micros = () => Number(process.hrtime.bigint() / 1000n);

const streams = Array.from({ length: Number(streamCount) }, () => randomUUID());
for (const stream of streams) await append(stream);

// Lets so many callers append until the time is up. No two of them share a stream.
async function work(existing, callers, seconds) {
  const started = micros();
  const deadline = started + seconds * 1e6;
  const latencies = [];
  const caller = async (number) => {
    for (let turn = number; ; turn = turn + callers < streams.length ? turn + callers : number) {
      const sent = micros();
      if (sent >= deadline) return;
      await append(existing ? streams[turn] : randomUUID());
      latencies.push(micros() - sent);
    }
  };
  await Promise.all(Array.from({ length: callers }, (_, number) => caller(number)));
  const elapsed = (micros() - started) / 1e6;
  latencies.sort((a, b) => a - b);
  const percentile = (hundredths) => latencies[Math.floor(((latencies.length - 1) * hundredths) / 100)];
  return { operations: latencies.length, seconds: elapsed, p50_us: percentile(50), p99_us: percentile(99) };
}

say({ ready: true });
for await (const line of createInterface({ input: process.stdin })) {
  const [which, callers, seconds] = line.split(' ');
  say(await work(which === 'existing', Number(callers), Number(seconds)));
}
await store.close();
await pool.end();
