//! One hard quota, three gateways: exactly its units are admitted, and "used up" is said only when none are left.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use devstack::replica::Replica;
use e2e::{caller::Caller, stack::Story, visitor::Visitor, wait};
use sqlx::PgPool;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::check;

/// The quota.
const LIMIT: u64 = 10_000;
/// The quota of the story in which a gateway dies.
const LIMIT_WITH_A_KILL: u64 = 3_000;
/// Programs that call at each gateway at the same time.
const CALLERS: usize = 4;
/// How long a killed gateway's leases may take to be settled once it is back.
const SETTLED_WITHIN: Duration = Duration::from_secs(20);
/// Within this time a quota must be used up; a machine that does a tenth of the usual still makes it.
const PATIENCE: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread")]
async fn three_gateways_admit_exactly_one_quota() -> anyhow::Result<()> {
    Story::tell(async |story| {
        let upstream = Upstream::start().await?;
        let (_, key) = subscriber(story, &upstream, "Quota Ltd", LIMIT).await?;
        let replicas = [Replica::start(&story.stack, "gateway-b").await?, Replica::start(&story.stack, "gateway-c").await?];
        let addresses = [story.gateway(), replicas[0].url(), replicas[1].url()];
        ready(&addresses, &key, &upstream).await?;

        let started = Instant::now();
        let (answers, after_the_end) = hammer(&addresses, &key).await?;
        let took = started.elapsed();
        let admitted = answers.get("200").copied().unwrap_or(0) + READY_CALLS * addresses.len() as u64;
        println!(
            "leases: {admitted} of {LIMIT} admitted by three gateways in {took:?}; answers: {answers:?}; upstream: {}",
            upstream.calls()
        );
        check!(admitted == LIMIT, "exactly {LIMIT} calls are admitted: {answers:?}");
        check!(after_the_end == 0, "{after_the_end} calls were admitted that began after another had heard that the quota is used up");
        check!(upstream.calls() == LIMIT, "the upstream saw each of them: {}", upstream.calls());
        check!(answers.keys().all(|answer| ["200", "429 quota-used-up", "503 quota-unknown"].contains(&answer.as_str())), "{answers:?}");

        let database = story.database().await?;
        let used = settled(&database, LIMIT).await?;
        check!(used == LIMIT, "the ledger counts what was admitted: {used}");
        database.close().await;
        for replica in replicas {
            replica.stop().await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_gateway_held_is_settled_when_it_comes_back() -> anyhow::Result<()> {
    Story::tell(async |story| {
        let upstream = Upstream::start().await?;
        let (_, key) = subscriber(story, &upstream, "Crash Ltd", LIMIT_WITH_A_KILL).await?;
        let mut replica = Replica::start(&story.stack, "gateway-b").await?;
        let addresses = [story.gateway(), replica.url()];
        ready(&addresses, &key, &upstream).await?;
        let (over, held) = (calls_in_the_background(&addresses, &key)?, READY_CALLS * 2 + LIMIT_WITH_A_KILL / 3);
        let attempt = async || Ok((upstream.calls() >= held).then_some(()));
        wait::until("load", PATIENCE, attempt).await?;
        replica.kill().await?;
        over.abort();

        // Alone, the other gateway gets what is free; what the killed one held is presumed spent, so it never hears "used up".
        let caller = Caller::new(&story.gateway(), &key)?;
        call_until(&caller, "quota-unknown").await?;
        check!(upstream.calls() <= LIMIT_WITH_A_KILL, "never over the limit: {}", upstream.calls());
        replica.revive(&story.stack).await?;
        // Its journal arrives and settles its leases. What its broken calls took is free again.
        call_until(&caller, "quota-used-up").await?;
        let database = story.database().await?;
        let used = settled(&database, LIMIT_WITH_A_KILL).await?;
        println!("leases: a gateway was killed: {used} used, {} calls at the upstream, limit {LIMIT_WITH_A_KILL}", upstream.calls());
        check!(used == LIMIT_WITH_A_KILL, "every unit could be spent: {used}");
        database.close().await;
        replica.stop().await
    })
    .await
}

const PATH: &str = "/weather/v1/cities";
/// Calls by which each gateway shows that it knows the key.
const READY_CALLS: u64 = 1;

/// An upstream that answers everything and counts.
struct Upstream {
    address: std::net::SocketAddr,
    calls: Arc<AtomicU64>,
}

impl Upstream {
    async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, calls) = (listener.local_addr()?, Arc::new(AtomicU64::new(0)));
        let counted = calls.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, counted.clone()));
            }
        });
        Ok(Self { address, calls })
    }

    fn calls(&self) -> u64 {
        self.calls.load(Ordering::Acquire)
    }
}

/// Answers requests without a body, one after the other.
async fn serve(mut socket: TcpStream, calls: Arc<AtomicU64>) -> std::io::Result<()> {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = socket.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        seen.extend_from_slice(&buffer[..read]);
        while let Some(at) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
            seen.drain(..at + 4);
            calls.fetch_add(1, Ordering::AcqRel);
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}").await?;
        }
    }
}

/// Somebody with a key on a plan that has one hard quota of calls and no rate limit, and whose calls go to the upstream that counts.
async fn subscriber(story: &Story, upstream: &Upstream, organization: &str, limit: u64) -> anyhow::Result<(Visitor, String)> {
    let database = story.database().await?;
    let microunits = i64::try_from(limit * 1_000_000)?;
    let changed = sqlx::query(
        "UPDATE plan_versions v SET rate_limits = '[]', quotas = (
             SELECT jsonb_build_array(jsonb_set(f.quotas->0, '{limit_microunits}', to_jsonb($1::bigint)))
             FROM plan_versions f JOIN plans p ON p.id = f.plan_id WHERE p.slug = 'free')
         FROM plans p WHERE p.id = v.plan_id AND p.slug = 'scale'",
    )
    .bind(microunits)
    .execute(&database)
    .await?;
    check!(changed.rows_affected() == 1, "the demo has one version of the plan");
    let sent = sqlx::query("UPDATE services SET upstream_url = $1 FROM api_products p WHERE p.id = product_id AND p.slug = 'weather'")
        .bind(format!("http://{}", upstream.address))
        .execute(&database)
        .await?;
    check!(sent.rows_affected() == 1, "the demo has one weather service");
    database.close().await;
    let visitor = story.newcomer("Quinn Quota", "quinn@example.com").await?;
    visitor.create_organization(organization).await?;
    let (_, key) = visitor.ready_to_call("Counter", "scale").await?;
    Ok((visitor, key))
}

/// Waits until each gateway knows the key and sends its calls to the upstream that counts: one call each is counted.
async fn ready(addresses: &[String], key: &str, upstream: &Upstream) -> anyhow::Result<()> {
    for (index, address) in addresses.iter().enumerate() {
        let caller = Caller::new(address, key)?;
        let attempt = async || Ok(caller.get(PATH).await?.status.is_success().then_some(()));
        wait::until("the key at the gateway", Duration::from_secs(10), attempt).await?;
        let expected = READY_CALLS * (index as u64 + 1);
        check!(upstream.calls() == expected, "the calls go to the upstream that counts: {} of {expected}", upstream.calls());
    }
    Ok(())
}

/// Calls at all gateways from all sides until each caller hears that the quota is used up. Returns how often each answer came, and how many calls were
/// admitted that began after the first such answer: to whomever it was given, it was false then.
async fn hammer(addresses: &[String], key: &str) -> anyhow::Result<(BTreeMap<String, u64>, u64)> {
    let (is_over, after_the_end) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut tasks = Vec::new();
    for address in addresses.iter().flat_map(|address| std::iter::repeat_n(address, CALLERS)) {
        let caller = Caller::new(address, key)?;
        let (is_over, after_the_end) = (is_over.clone(), after_the_end.clone());
        tasks.push(tokio::spawn(async move {
            let mut answers: BTreeMap<String, u64> = BTreeMap::new();
            let deadline = Instant::now() + PATIENCE;
            loop {
                let was_over = is_over.load(Ordering::Acquire);
                let answer = caller.get(PATH).await?;
                after_the_end.fetch_add(u64::from(was_over && answer.status.is_success()), Ordering::AcqRel);
                let problem = if answer.status.is_success() { String::new() } else { format!(" {}", answer.problem()) };
                let name = format!("{}{problem}", answer.status.as_u16());
                *answers.entry(name.clone()).or_default() += 1;
                let denied = name == "429 quota-used-up";
                is_over.fetch_or(denied, Ordering::AcqRel);
                if denied || Instant::now() > deadline {
                    return anyhow::Ok(answers);
                }
            }
        }));
    }
    let mut sum: BTreeMap<String, u64> = BTreeMap::new();
    for task in tasks {
        task.await??.into_iter().for_each(|(answer, count)| *sum.entry(answer).or_default() += count);
    }
    Ok((sum, after_the_end.load(Ordering::Acquire)))
}

/// Calls until this problem is the answer. "Quota unknown" may come before "used up", and never after it.
async fn call_until(caller: &Caller, problem: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = caller.get(PATH).await?;
        let found = answer.problem();
        if found == problem {
            return Ok(());
        }
        check!(answer.status.is_success() || found == "quota-unknown", "waiting for {problem}: {answer:?}");
        check!(Instant::now() < deadline, "{problem} is not heard within {PATIENCE:?}");
    }
}

/// Calls at all gateways until it is told to stop.
fn calls_in_the_background(addresses: &[String], key: &str) -> anyhow::Result<tokio::task::AbortHandle> {
    let callers = addresses.iter().flat_map(|address| std::iter::repeat_n(address, CALLERS));
    let callers = callers.map(|address| Caller::new(address, key)).collect::<anyhow::Result<Vec<_>>>()?;
    let calls = async move {
        let call = |caller: Caller| async move {
            loop {
                // One of the gateways is killed meanwhile.
                let _ = caller.get(PATH).await;
            }
        };
        futures_util::future::join_all(callers.into_iter().map(call)).await;
    };
    Ok(tokio::spawn(calls).abort_handle())
}

/// Waits until the ledger counts so many units and nothing of the quota is out, and says what it counts.
async fn settled(database: &PgPool, limit: u64) -> anyhow::Result<u64> {
    let mut used = 0;
    let attempt = async || {
        let counted: i64 = sqlx::query_scalar(
            "SELECT coalesce(sum(l.used), 0)::bigint FROM quota_ledger l JOIN subscriptions s ON s.tenant_id = l.namespace_id AND s.id = l.subscription_id
             JOIN applications a ON a.tenant_id = s.tenant_id AND a.id = s.application_id WHERE a.name = 'Counter'",
        )
        .fetch_one(database)
        .await?;
        used = u64::try_from(counted)?;
        Ok((used >= limit).then_some(()))
    };
    // What is short is said by the caller.
    let _ = wait::until("all usage in the ledger", SETTLED_WITHIN, attempt).await;
    Ok(used)
}
