use flujo::step;

fn main() {
    let _ = step("sync", |n: u32| n + 1);
}
