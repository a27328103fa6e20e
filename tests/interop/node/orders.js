// One order on standard input as JSON; on standard output what came back, or what was wrong.

export async function carryOut(order, explain) {
  let text = "";
  for await (const chunk of process.stdin) text += chunk;
  let found;
  try {
    found = { answer: await order(JSON.parse(text)) };
  } catch (error) {
    found = { problem: explain(error) };
  }
  console.log(JSON.stringify(found));
}
