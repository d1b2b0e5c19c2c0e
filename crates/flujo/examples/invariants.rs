//! What must hold after every step; the first step that breaks it fails.

use flujo::{BoxError, Context, Flujo, RunError, Scope, step};

#[derive(Debug, Context)]
struct Account {
    balance: i64,
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), BoxError> {
    let withdraw = step("withdraw", |amount: i64, scope: Scope<Account>| async move {
        scope.context().update(|account| account.balance -= amount);
        Ok::<_, BoxError>(amount)
    });
    let flujo = Flujo::new(withdraw.invariant("solvent", |account: &Account| account.balance >= 0));
    let done = flujo.run_with(7, &Account { balance: 10 }).await?;
    assert_eq!(done.context.balance, 3);
    let Err(RunError::Failed { failure, partial }) = flujo.run_with(70, &Account { balance: 10 }).await
    else {
        return Err("the account should have been refused".into());
    };
    assert_eq!(failure.message.as_ref(), "the invariant `solvent` doesn't hold");
    assert_eq!(Account::load(&partial.context)?.balance, 10);
    Ok(())
}
