//! What is said of the broker, from a real connection to a real RabbitMQ.

use conformance::until;
use operator_tests::ground;
use rabbitmq_rig::Rabbit;

#[test]
fn a_channel_says_whether_the_broker_has_what_it_needs() {
    let (ground, mut rabbit) = (ground().unwrap(), Rabbit::start().unwrap());
    ground.cluster.kubectl(&["create", "namespace", "lab"]).unwrap().ok().unwrap();
    ground
        .cluster
        .apply("apiVersion: tidegate.io/v1alpha1\nkind: Channel\nmetadata: {namespace: lab, name: t}\nspec: {}\n")
        .unwrap();
    let said = || ground.condition("lab", "channel.tidegate.io/t", "BrokerReady");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("url");
    let good = rabbit.url().unwrap();
    std::fs::write(&file, &good).unwrap();
    let file_option = ["--broker-file", file.to_str().unwrap()];

    let mut operator = ground.operator_with(0, &file_option).unwrap();
    until("the broker is ready", || said() == "True/BrokerReady");
    let exchanges = rabbit.ctl(&["list_exchanges", "name"]).unwrap();
    assert!(exchanges.lines().any(|line| line == "messages"), "{exchanges}");
    rabbit.kill().unwrap();
    until("the broker is missed", || said() == "False/BrokerUnreachable");
    assert_eq!(ground.condition("lab", "channel.tidegate.io/t", "Ready"), "False/BrokerUnreachable");
    rabbit.restart().unwrap();
    until("the broker is back", || said() == "True/BrokerReady");

    // A password that was changed without the operator's file, and then with it.
    let user = good.split("://").nth(1).unwrap().split(':').next().unwrap();
    rabbit.ctl(&["change_password", user, "another-password"]).unwrap();
    let connections = rabbit.ctl(&["list_connections", "pid", "--quiet"]).unwrap();
    assert!(!connections.is_empty());
    rabbit.ctl(&["close_all_connections", "rotated"]).unwrap();
    until("the operator is refused", || said() == "False/BrokerAuthFailed");
    let secret = good.split(&format!("{user}:")).nth(1).unwrap().split('@').next().unwrap();
    std::fs::write(&file, good.replace(&format!(":{secret}@"), ":another-password@")).unwrap();
    until("it takes up the new one", || said() == "True/BrokerReady");
    assert!(!operator.log().contains("another-password"));
    operator.terminate().unwrap();

    // An exchange that somebody made in another way.
    let odd = "rabbit_exchange:declare(rabbit_misc:r(<<\"/\">>, exchange, <<\"odd\">>), direct, true, false, false, [], <<\"test\">>).";
    rabbit.ctl(&["eval", odd]).unwrap();
    let _operator = ground.operator_with(0, &[&file_option[..], &["--exchange", "odd"]].concat()).unwrap();
    until("it is told", || said() == "False/BrokerConflict");
}
