//! A pipeline with a context of its own as one step of another.

use flujo::{BoxError, Context, Flujo, Scope, import, step};

#[derive(Default, Context)]
struct Order {
    customer: String,
    price: u64,
}

#[derive(Default, Context)]
struct Invoice {
    to: String,
    lines: Vec<u64>,
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), BoxError> {
    let add = step("add", |price: u64, scope: Scope<Invoice>| async move {
        scope.context().update(|invoice| invoice.lines.push(price));
        Ok::<_, BoxError>(price)
    });
    let pipeline = import(
        "invoice",
        add,
        |_: &u64, order: &Order| Invoice {
            to: order.customer.clone(),
            lines: vec![1],
        },
        |invoice: &Invoice, order: &mut Order| {
            order.price = invoice.lines.iter().sum::<u64>() + invoice.to.len() as u64;
        },
    );
    let order = Order {
        customer: "Ann".into(),
        price: 0,
    };
    let done = Flujo::new(pipeline).run_with(5, &order).await?;
    assert_eq!(done.context.price, 9);
    Ok(())
}
