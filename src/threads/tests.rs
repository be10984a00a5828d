use super::*;

#[test]
fn each_has_a_stripe_for_itself_while_there_are_some() {
    let mut alive = Alive::nobody();
    let first: Vec<_> = (0..PRIVATE).map(|_| alive.enlist().0).collect();
    assert_eq!(first, (SHARED..STRIPES).collect::<Vec<_>>());
    // Then they share the others evenly.
    let next: Vec<_> = (0..2 * SHARED).map(|_| alive.enlist().0).collect();
    assert_eq!(next, (0..SHARED).chain(0..SHARED).collect::<Vec<_>>());
    alive.dismiss(Stripe(SHARED + 3));
    alive.dismiss(Stripe(5));
    assert_eq!([(); 2].map(|()| alive.enlist().0), [SHARED + 3, 5]);
}

#[test]
fn a_thread_is_known_by_its_name_until_it_ends() {
    let thread = std::thread::Builder::new().name("heron".into());
    let here = thread.spawn(|| (current(), name(current())));
    let (number, there) = here.expect("starts").join().expect("no panic");
    assert_eq!(there, "heron");
    assert_eq!(name(number), "a thread that has ended");
}
