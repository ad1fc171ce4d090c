"""More prompts of all kinds, with what the contract says that each asks for. The short form is that of `cases`.

An item may end with the words that are quoted: dogs=2! "two dogs".
"""

from __future__ import annotations

SEVERAL_IMAGES = [
    ("Place the woman from image 1 next to the two men from image 2 in the kitchen of image 3", 3,
     'woman=1@0; men=2!@1 "the two men"; kitchen=1@2'),
    ("Combine image 1 and image 2: the cat from image 1 wears the crown from image 2.", 2, "cat=1@0; crown=1@1"),
    ("Take the guitar from the third image and hand it to the girl from the first image; keep the stage of image 2", 3,
     "guitar=1@2; girl=1@0; stage=1@1"),
    ("The car from image 1 and 2 bicycles on a bridge", 1, 'car=1@0; bicycles=2! "2 bicycles"; bridge=1'),
    ("Use both references: the vase with three tulips from image 2 on the table from image 1", 2,
     "vase=1@1; tulips=3!@1; table=1@0"),
    ("Dress the man in image 1 with the jacket in image 2 and the boots in image 3, no hat", 3,
     "man=1@0; jacket=1@1; boots=?@2; +hat=0!"),
    ("A family portrait: the grandmother (image 1), the father (image 2) and the two children (image 3)", 3,
     "grandmother=1@0; father=1@1; children=2!@2"),
    ("the same puppy as in the last picture, chasing a ball", 2, "puppy=1@1; ball=1"),
    ("Image 1 is the armchair, image 2 is the lamp. Put the lamp from image 2 behind the armchair.", 2,
     "armchair=1@0; lamp=1@1"),
    ("@image1's backpack on the bench of @image2", 2, "backpack=1@0; bench=1@1"),
    ("Swap the helmet of image 1 for the one in image 2", 2, "helmet=1@1"),
    ("the teapot from image 5 and one cup from image 2", 2, "teapot=1@^5; cup=1!@1"),
]  # fmt: skip

EDITS = [
    ("Could you remove the two people in the background and add a sailboat to the lake?", 1,
     'people=0! "remove the two people"; sailboat=1; lake=1'),
    ("Swap out the plastic chairs for four wooden stools", 1, "plastic chairs=0!; wooden stools=4!"),
    ("Transform the cottage into a castle but keep the garden", 1, "cottage=0!; castle=1; garden=1"),
    ("Transform the cottage into a castle but keep the garden", 1, "castle=1; garden=1; +cottage=0!"),
    ("Make the boy's jacket yellow and leave his backpack alone", 1, "yellow jacket<jacket=1; backpack=1"),
    ("Recolor the walls to light grey, then hang three paintings above the bed", 1,
     "light grey walls<walls=?; paintings=3!; bed=1"),
    ("Don't remove the cat, just erase the leash", 1, 'cat=1 "the cat"; leash=0!'),
    ("Crop out the photographer and take the tripod away", 1, "+photographer=0!; +tripod=0!"),
    ("Edit the photo so that the horse is replaced with a zebra", 1, "horse=0!; zebra=1"),
    ("Turn the woman towards the window and give her a book", 1, "woman=1; window=1; book=1"),
    ("Change her dress from blue to green", 1, "green dress<dress=1"),
    ("Keep everything as it is, but with the traffic cone gone and a mailbox in its place", 1,
     "traffic cone=0!; mailbox=1"),
    ("Move the clock to the wall and convert the fireplace to a bookshelf", 1,
     "clock=1; wall=1; fireplace=0!; bookshelf=1"),
]  # fmt: skip

TAGS = [
    ("1boy, 2girls, school uniform, cherry blossoms, no hat, masterpiece", 0,
     "school uniform=1; cherry blossoms=?; +hat=0!"),
    ("solo, 1 woman, red scarf, 2 swords, wet hair, night sky, 4k", 0,
     "woman=1!; red scarf=1; swords=2!; wet hair=?; night sky=1"),
    ("isometric room, bunk bed, three posters, a rug, half a dozen plush toys, without people", 0,
     "bunk bed=1; posters=3!; rug=1; plush toys=6!; people=0!"),
    ("product shot, perfume bottle, two lemon slices, mint leaves, wet marble, f/2.8", 0,
     "perfume bottle=1; lemon slices=2!; mint leaves=?; wet marble=?"),
    ("((two dragons:1.2)), castle, [no knights], fog", 0, "dragons=2!; castle=1; fog=?; +knights=0!"),
]  # fmt: skip

LONG = [
    ("On a windy afternoon, a fisherman in his sixties mends a net on a stone pier while two gulls fight over a fish. "
     "Behind him, at least four trawlers are moored, and a boy feeds bread to the gulls. The fisherman has no beard, "
     "but his cap is pulled low. There isn't a cloud in the sky.", 0,
     'fisherman=1; net=1 "a net"; stone pier=1; gulls=2!; fish=1; trawlers=4; boy=1; bread=? "bread"; beard=0!; '
     "cap=1; +cloud=0!"),
    ("A chef slices onions on a steel counter; beside her stand a pot of soup, three copper pans and a couple of "
     "wooden spoons. A waiter carries two plates of pasta. The chef is smiling. Nobody is sitting at the tables.", 0,
     'chef=1; onions=? "onions"; steel counter=1; pot of soup=1; copper pans=3!; wooden spoons=2; waiter=1; '
     "plates of pasta=2!; tables=?"),
    ("The photo shows a classroom from the 1960s with about thirty desks, a blackboard and an old globe. Two pupils "
     "raise their hands; one pupil sleeps. On the blackboard someone wrote \"no more homework\".", 0,
     "desks=30; blackboard=1; old globe=1; pupils=3!; hands=?"),
    ("A mountain road after rain. A yellow bus overtakes a truck carrying logs, followed by three motorcyclists. "
     "Sheep graze next to the road, and a second bus waits at the stop. No other vehicles are visible.", 0,
     "mountain road=1; yellow bus=1; truck=1; logs=?; motorcyclists=3!; sheep=?"),
]  # fmt: skip

COUNTS = [
    ("a 12 foot statue between two 5 story buildings", 0, 'statue=1 "a 12 foot statue"; buildings=2!'),
    ("three half-empty glasses and a half-eaten sandwich", 0, "glasses=3!; sandwich=1"),
    ("two pairs of jeans and a pair of horses", 0, 'jeans=2!; horses=2! "a pair of horses"'),
    ("no fewer than seven candles, at most two matches", 0, "candles=7; matches=?"),
    ("both of the twins hold a lantern each", 0, 'twins=2! "both of the twins"; lantern=1'),
    ("a fleet of five ships and a swarm of bees", 0, "ships=5!; bees=?"),
    ("2 x red mugs, 1 x blue mug", 0, "red mugs=2!; blue mug=1!"),
    ("a score of soldiers and hundreds of arrows", 0, "soldiers=?; arrows=?"),
    ("one hundred candles around a coffin", 0, "candles=100!; coffin=1"),
    ("the number 7 bus and a pair of old binoculars", 0, "bus=1; binoculars=1"),
    ("a man with two dogs and a woman with another dog", 0, 'man=1; dogs=3 "two dogs"; woman=1'),
    ("four-leaf clover, three-piece suit, two-story house", 0, "three-piece suit=1; two-story house=1"),
]  # fmt: skip

NO_EXCLUSIONS = [
    ('a sign that says "NO DOGS" beside two dogs', 0, "sign=1; dogs=2!"),
    ("a poster reading 'without music life is nothing', a guitar", 0, "poster=1; guitar=1; music=?-"),
    ("The old house is no longer empty: a family lives there", 0, "old house=1; family=1"),
    ("not only a violin but also a cello", 0, "violin=1; cello=1"),
    ("without a doubt, a proud lion on a rock", 0, "lion=1; rock=1"),
    ("Nobody sits on the bench, no one holds the umbrella", 0, "bench=1; umbrella=1"),
    ("a knight who never leaves his horse", 0, "knight=1; horse=1"),
    ("a no parking sign in front of a garage", 0, 'no parking sign=1 "a no parking sign"; garage=1'),
    ("There is no need to remove the fence", 1, "fence=1"),
    ("no two snowflakes are alike, a red mitten", 0, "snowflakes=?; red mitten=1"),
]  # fmt: skip

NAMES = [
    ("El Ni\u00f1o playing on a cajón next to two ma\u00f1anitas", 0, "cajón=1; mañanitas=2!"),
    ("three cr\u00eapes, a caf\u00e9 au lait and a na\u00efve painting", 0, "crêpes=3!; café au lait=1"),
    ("a Sch\u00e4ferhund beside two Bundt cakes in K\u00f6ln", 0, "Schäferhund=1; Bundt cakes=2!"),
    ("\u4e24\u53ea\u72d7\u5728\u6c99\u53d1\u4e0a", 0, "dogs=?-; sofa=?-"),
    ("the Smiths' dog, Mr. Miller's two cats and a bird's nest", 0,
     'dog=1 "the smiths\' dog"; cats=2!; nest=1'),
    ("my sister's wedding dress, James's guitar", 0, "wedding dress=1; guitar=1"),
]  # fmt: skip

HARDER = [
    ("A golden retriever and a tabby cat share a sofa; neither of them is wearing a collar.", 0,
     "golden retriever=1; tabby cat=1; sofa=1; collar=1"),
    ("Put a hat on each of the three dogs", 1, 'hat=1; dogs=3! "the three dogs"'),
    ("Two of the five penguins are looking at the camera", 0, "penguins=2!; camera=1"),
    ("a row of ten parking meters along the street", 0, "parking meters=10!; street=1"),
    ("a dozen or so sheep, 20+ flags, ~15 balloons, ten or so cars", 0, "sheep=12; flags=20; balloons=15; cars=10"),
    ("1,000 paper cranes and 2.5 pizzas", 0, "paper cranes=1000!; pizzas=?"),
    ("3\u20135 crows, between three and five lanterns", 0, "crows=3; lanterns=3"),
    ("as many as six dolphins, well over 40 seals, a dove over two hills", 0, "dolphins=?; seals=40; dove=1; hills=2!"),
    ("two flocks of birds and three packs of wolves", 0, 'birds=? "two flocks of birds"; wolves=?'),
    ("I don't want any dogs in the picture, but a cat is fine", 0, "cat=1; dogs=0!"),
    ("a cat, not wearing a hat, next to a dog wearing a hat", 0, "cat=1; hat=1; dog=1"),
    ("a woman who isn't wearing glasses", 0, "woman=1; +glasses=0!"),
    ("a sofa but no coffee table and no rug", 0, "sofa=1; +coffee table=0!; +rug=0!"),
    ("a bare table, nothing on it", 0, "bare table=1"),
    ("There shouldn't be any houses or power poles.", 1, "+houses=0!; +power poles=0!"),
    ("NO DOGS, NO CATS, two birds", 0, "birds=2!; +dogs=0!; +cats=0!"),
    ("No, the dog should be on the left", 1, "dog=1"),
    ("remove all objects except the lamp", 1, "lamp=1"),
    ("Remove the dogs' collars", 1, 'dogs=?; +collars=0! "remove the dogs\' collars"'),
    ("Change the girl's jeans to a tartan skirt and give her a butterfly net", 1,
     'girl=1 "the girl"; tartan skirt=1; butterfly net=1 "a butterfly net"; +jeans=0!'),
    ("The cafe tables should be replaced by food stalls", 1, "food stalls=?; +cafe tables=0!"),
    ("Swap the metal nightstands for wooden ones. Add a lamp on the left nightstand.", 1,
     "lamp=1; left nightstand=1; +metal nightstands=0!"),
    ("Remove the hat and add a new hat to the dog", 1, "hat=1; dog=1"),
    ("a man with a hat. Remove the hat.", 1, "man=1; hat=0!"),
    ("replace the dog in image 1 with the dog from image 2", 2, "dog=1@1"),
    ("Paint the fence and the gate white", 1, "white fence<fence=1; white gate<gate=1"),
    ("make the cat black and the dog white", 1, "black cat<cat=1; white dog<dog=1"),
    ("The man's hat should be red", 1, "red hat<hat=1"),
    ("Change the three white doors to green", 1, "green doors<white doors=3!"),
    ("turn the red car in image 1 blue", 1, "blue car<red car=1@0"),
    ("make the dog jump to the sofa and turn the chair to the window", 1, "dog=1; sofa=1; chair=1; window=1"),
    ("Make the man in image 1 hold the sword from image 2 in his left hand and the shield from image 3", 3,
     "man=1@0; sword=1@1; left hand=1; shield=1@2"),
    ("Use image 1 as the background and image 2 as the character", 2, "character=1@1"),
    ("(image 1) dog + (image 2) cat on a rug", 2, "dog=1@0; cat=1@1; rug=1"),
    ("Put the logo (see image 2) on the front of the mug (see image 1)", 2, "logo=1@1; mug=1@0"),
    ("images 1 and 2 show a dog, image 3 a cat", 3, "dog=1@0,1; cat=1@2"),
    ("the dog from image 1 and the one from image 2 on a rug", 2, "dog=2@0,1; rug=1"),
    ("the cups from image 1 and those in image 3", 3, "cups=?@0,2"),
    ("Show the red backpack from all images on a trail", 3, "red backpack=1@0,1,2; trail=1"),
    ("all pictures on the wall are red", 2, "pictures=?"),
    ("the boots in image 1 and 2 on a table", 2, "boots=?@0,1; table=1"),
    ("three glow-in-the-dark stars, a rolled-up tent, a mother-of-pearl handle", 0,
     "glow-in-the-dark stars=3!; rolled-up tent=1; mother-of-pearl handle=1"),
    ("two watch straps on a play button", 0, 'watch straps=2! "two watch straps"; play button=1'),
    ("a vendor grills meat while the chef is cooking rice", 0, 'meat=? "meat"; rice=? "rice"'),
    ('a 24" monitor, two 3 inch nails and a 5 year old boy', 0, "monitor=1; nails=2!; boy=1"),
    ("Formula 1 cars, a Boeing 747 plane and a 1950 Chevrolet", 0, "cars=?; plane=1; chevrolet=1"),
    ("a Mercedes-Benz next to a Harley-Davidson, two Coca-Cola bottles", 0,
     "mercedes-benz=1; harley-davidson=1; coca-cola bottles=2!"),
    ("A man with his dog. The dog has a ball. A second dog watches.", 0, "man=1; dog=2; ball=1"),
    ("What would a lion look like without a mane?", 0, "lion=1; mane=0!"),
    ("it's not the dog that barks but the fox", 0, "dog=0!; fox=1"),
    ("a mother and her three kids, all wearing hats", 0, 'mother=1; kids=3!; hats=? "hats"'),
    ("one-way sign, no entry sign, stop sign", 0, "one-way sign=1; no entry sign=1; stop sign=1"),
    ("a park without any people, animals, or vehicles in sight", 0, "park=1; +people=0!; +animals=0!; +vehicles=0!"),
    ("The image should not contain text, watermarks or logos.", 0, "+text=0!; +watermarks=0!; +logos=0!"),
    ("Exclude the fence, the gate and the mailbox.", 1, "+fence=0!; +gate=0!; +mailbox=0!"),
    ("remove the hospital bed; no wedding ring, no dog barking", 1, "+hospital bed=0!; +wedding ring=0!; +dog=0!"),
    ("Not a single person in the street", 0, "street=1; person=0!"),
    ("A cat \u2013 no collar \u2013 on a mat; two mice", 0, "cat=1; mat=1; mice=2!; +collar=0!"),
    ("a loaf of bread, two wedges of cheese and three slices of ham", 0,
     "loaf of bread=1; wedges of cheese=2!; slices of ham=3!"),
    ("the Three Musketeers fighting all 32 guards", 0, "musketeers=3!; guards=32!"),
    ("a three-headed dog, a dog & a cat", 0, "three-headed dog=1; dog=1; cat=1"),
    ("two men remove their hats while a woman removing her coat smiles", 0, "men=2!; hats=?; woman=1; coat=1"),
    ("The man has removed his hat; the dog has gone to the door", 0, "man=1; hat=1; dog=1; door=1"),
    ("two women exchange gifts with a man", 0, "women=2!; gifts=?; man=1"),
    ("Move the chair away from the wall", 1, "chair=1; wall=1"),
    ("Edit it by removing the sign and carefully erase the wire", 1, "sign=0!; wire=0!"),
    ("In image 1 remove the dog, then replace the lamp with a plant", 1, "dog=0!; lamp=0!; plant=1"),
    ("Two bottles: the one from image 1 and the one from image 2", 2, "bottles=2!@0,1"),
    ("person 1 from image 1 and person 2 from image 2 shake hands", 2, "person=2@0,1; hands=?"),
    ("from image 1 the dog, from image 2 the ball", 2, "dog=1@0; ball=1@1"),
    ("Using the provided image of a handbag, place it on a chair", 1, "handbag=1@0; chair=1"),
    ("<img1> is a corgi, <img2> is a hat; the corgi wears the hat", 2, "corgi=1@0; hat=1@1"),
    ("Change the man's shirt in image 1 to the shirt in image 2", 2, "man=1; shirt=1@1"),
    ("the couple from image 1 with their two kids from image 2", 2, "couple=1@0; kids=2!@1"),
    ("image 1 but with two cats instead of one dog", 1, "cats=2!; dog=0!"),
    ("The third image's car drives through the first image's tunnel", 3, "car=1@2; tunnel=1@0"),
    ("Four out of five doctors smile; a tower of ten blocks, each block red", 0, "doctors=4!; tower=1; blocks=10!"),
    ("Flat lay of a phone, keys, two passports and no wallet", 0, "phone=1; keys=?; passports=2!; +wallet=0!"),
    ("An astronaut plants a flag; no footprints are visible anywhere, but several craters are", 0,
     "astronaut=1; flag=1; craters=?; +footprints=0!"),
    ("Turn her jacket from leather into denim", 1, "denim jacket<jacket=1"),
    ("Turn it into a watercolor, turn the lights off and keep the two boats", 1, "lights=?; boats=2!"),
    ("zero dogs, one cat", 0, 'dogs=0! "zero dogs"; cat=1!'),
    ("Two   dogs play\nwith a ball", 0, 'dogs=2! "two dogs"; ball=1'),
]  # fmt: skip

FAILURES = {
    "Use both references: the vase with three tulips from image 2 on the table from image 1": (
        "the reference is tied to the nearest noun, the tulips; which of the two is meant, grammar alone does not say"
    ),
}
"""Prompts that are read otherwise, with the reason."""

FURTHER_GROUPS = {
    "several images": SEVERAL_IMAGES,
    "further edits": EDITS,
    "further tags": TAGS,
    "long": LONG,
    "counts": COUNTS,
    "no exclusions": NO_EXCLUSIONS,
    "names": NAMES,
    "harder": HARDER,
}
