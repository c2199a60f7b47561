"""Short forms and spellings of given names: which pairs may name one human.

A table and its look-up, nothing about whole names. A short form stands for several full names
("Alex"), but two full names with a common short form stay two names (Alexander, Alexandra).
"""

from typing import Final

# full name: its short forms and other spellings, folded to plain lower-case letters.
_TABLE: Final = """
abigail: abby abbie gail
abdullah: abdallah abdulla
abraham: abe avraham bram
adelaide: addie heidi
agnieszka: aga agnes
ahmed: ahmad achmed ahmet
aleksander: alek olek aleks alex
aleksandra: ola alex sasha
aleksandr: sasha alex alexander
alejandro: alex ale alejo jandro
alessandro: alex ale sandro
alessandra: alex ale sandra
alexander: alex al sandy sasha xander lex aleksander alec
alexandra: alex sandra sandy sasha lexi aleksandra
alexandre: alex
alexei: alexey aleksei aleksey alex alyosha
alfred: al alf fred alfie
ali: aly
alistair: alasdair alastair al
amanda: mandy
amelia: amy millie mia
ananya: anu
andrea: andy andi
andreas: andi andy
andrei: andrey andrej
andres: andy
andrew: andy drew andi
angela: angie angel
anna: ann annie anya ania hanna
anne: annie
annegret: anne gretel
anneliese: anne liesel
annika: anni
anthony: tony ant toni antony
antoine: toine
antonio: tony toni nino
antonia: toni
archibald: archie
arthur: art artie
astrid: asta
augustus: gus
aurelie: lili
barbara: barb babs barbie basia
bartholomew: bart
beatrice: bea trixie bice
beatriz: bea bia
begona: bego
benedict: ben
benedikt: ben bene
benjamin: ben benny benji benjy
bernard: bernie
bernhard: bernd
bartlomiej: bartek
bjoern: bjorn
bradley: brad
brian: bryan bryon
brigitte: gitte gitti
bozena: bozenka
calvin: cal
cameron: cam
camila: cami mila
camille: cam
carlos: charlie
carol: carrie
caroline: caro carol carrie line
carolina: caro carol
cassandra: cass cassie
catherine: cathy kate katie cat cath kitty katherine kathryn catharine
cecilia: cece celia cissi
charles: charlie chuck chas chaz charley
charlotte: charlie lottie lotte char
chloe: clo
christian: chris
christiane: chris
christina: chris tina chrissy christa
christine: chris tina chrissy
christoph: chris stoffel
christopher: chris kit topher kristopher christophe
clara: klara
clarence: clare
clemens: clem
clement: clem
conceicao: ceicao
constance: connie
constantin: costi konstantin
cornelia: conny nele
cornelius: cor kees
cristina: cris tina
cynthia: cindy
cyril: cy
dafna: daphna daphne
daniel: dan danny dani danni daan
daniela: dani
danielle: dani
david: dave davy davey dov dawid
deborah: deb debbie debby debra debora
dennis: denny den
derek: derrick deric
diana: di
diego: santiago
dieter: didi
dmitri: dmitry dmitriy dima mitya dimitri
dolores: lola
dominic: dom nick dominik
dominique: dom
donald: don donnie
dorothy: dot dottie dolly
douglas: doug
edmund: ed eddie ned
eduardo: edu lalo dudu
edward: ed eddie ted teddy ned eddy edvard
edwin: ed eddie
eleanor: ellie nell nora elle elinor
elena: lena
eleonora: nora
elisabeth: lisa elli elisa liesel lieselotte else betty lisbeth elizabeth
elizabeth: liz beth betsy betty lizzie eliza libby lisa ellie bess elisabeth
emanuel: manu manny emmanuel
emil: emile
emily: em emmy millie emilie emilia
emma: em
enrique: quique kike
erich: eric erik
erik: eric erick
ernest: ernie
esther: essie hester
ethan: eitan itan
etienne: stephane steve
eugene: gene
evelyn: eve evie
ewa: eva
fabian: fabi
fabio: fabi
fatima: fatma fatimah fatemeh
federica: fede
federico: fede
ferdinand: ferdi
fernando: nando fer
filippo: pippo
florence: flo
florian: flo
frances: fran francie frankie fanny
francesca: franci fra
francesco: franco cesco ciccio fra
francis: frank fran frankie
francisca: paca fran
francisco: paco pancho fran curro chico kiko
franklin: frank
francois: fran
franz: franzi
frederic: fred
frederick: fred freddy freddie rick frederic frederik fredrick
friedrich: fritz fred friedel
gabriel: gabe gabi
gabriela: gabi gaby
gabriele: gabi gaby
gabrielle: gabby gaby gabi
gaelle: gael
genevieve: gen ginny vivi
geoffrey: geoff jeff jeffrey
george: geo georgie jorge georg
georgina: gina georgie
gerald: gerry jerry
gerard: gerry
gerhard: gerd
gertrude: trudy gert
giovanni: gianni vanni gio
giovanna: gianna vanna
giulia: giuli
giuseppe: beppe peppe pino
gonzalo: gonza
goran: joran
gottfried: friedel
grace: gracie
grazyna: grazynka
gregory: greg gregor gregg
grzegorz: greg grzesiek
gretchen: greta
guillaume: guille
guillermo: memo willy guille
gunther: guenter gunter guenther
gustav: gus
gustavo: gus guga tavo
halina: hala halinka
hannah: hanna anna nan channah hana
hans: hannes
harald: harry
harold: harry hal
hassan: hasan
heinrich: heinz heini
helen: nell nellie lena ellen
helena: lena hela
helene: lena leni
henry: harry hank hal henri henrik
hendrik: henk rik hein
herbert: herb bert
herman: manny
hermann: manni
hussein: husayn hossein husein hussain
ian: iain
ibrahim: ebrahim brahim
ignacio: nacho
ignatius: iggy
ingrid: inga inge
irene: rena
isaac: ike zac yitzhak
isabel: isa izzy bella belle chabela
isabella: isa izzy bella
isabelle: isa izzy belle
itai: ittai etai
ivan: vanya
jacek: jac
jacob: jake jakob jack kuba
jacqueline: jackie jacqui
jadwiga: jadzia
jakub: kuba
james: jim jimmy jamie jem
jan: jasiek janek
jane: janie
janet: jan
janice: jan
jean: jeannie
jeffrey: jeff geoff geoffrey
jennifer: jen jenny jenn jenni
jeremy: jerry jem jez
jerome: jerry
jerzy: jurek
jessica: jess jessie
jesus: chucho chuy suso
joachim: jochen achim
joanna: jo joey asia joann
joanne: jo
joao: jao
joaquin: quim quino
johann: hans jo
johanna: jo hanna hanne
johannes: hans jo hannes jan
john: jack johnny jon johnnie jock
jonathan: jon jonny nathan john
jose: pepe chepe pepito
josef: sepp jupp
joseph: joe joey jo yosef yossi yousef
josephine: jo josie
joshua: josh
joyce: joy
juan: juanito
judith: judy jude
julia: julie jules
julian: jules
juliana: ju juli
juliane: juli
juergen: jurgen
jorg: joerg
karen: kaz
karl: carl kalle
karl-heinz: kalle heinz
karolina: karo karola
karthik: kartik
katarzyna: kasia kaska
katharina: kathi kati kathy nina rina
katherine: kate katie kathy kat kathryn kathleen katharine kitty kay catherine katharina
kathleen: kathy kate katie kath
katrin: kathrin kati
kavya: kavi
kenneth: ken kenny
kerstin: kirsten kia
kevin: kev
kimberly: kim kimberley
klaus: claus
krzysztof: krzys krzysiek chris
kurt: curt
lakshmi: laxmi
lambert: bert
larissa: lara
lars: lasse
laura: laurie lori
laurence: laurie larry lawrence
lawrence: larry laurie lars
leah: lea
leonard: leo len lenny lennard
leonardo: leo
leopold: leo poldi
leticia: lety leti
lieselotte: lilo lotte liesel liselotte
lillian: lily lil
linda: lindy
linnea: nea
louis: lou louie lewis
louise: lou lulu
lucas: luke luca lukas
lucia: luci lucy luz
lucille: lucy
lukas: luki lucas
lukasz: lukas luke
luis: lucho luiz
maarten: martin maart
magdalena: magda lena maggie
magnus: manne
maja: maya maia
malgorzata: gosia malgosia margaret
manfred: manni fred
manuel: manu manolo manny
manuela: manu
marcin: martin
marcio: marcinho
marcus: marc mark markus
margaret: maggie meg peggy marge margie greta rita daisy madge peg
margareta: greta
margarete: grete gretel
maria: mia mary marie ria mari maryam mariam
mariam: maryam miriam mariyam maria
marie: mia maria
marion: mary
markus: mark
martin: marty marten mart
martina: tina
mary: molly polly mae marie maria
mateusz: mati matt
mathias: matt matthias
mathieu: mat matt matthieu
mathilde: tilda
matilda: tilly mattie
matthew: matt matty mat mathew
matthias: matze matt mathias hias
maurice: mo
maximilian: max maxi
maxwell: max
megan: meg meghan meaghan
melanie: mel
melissa: mel missy lissa
mercedes: merche
michael: mike mick mickey mikey mitch micha michel mikael misha
michal: michael mike misiek
michelle: shelly mich chelle
miguel: mike migue
mikhail: misha mike michael
mildred: millie
miriam: mimi miri
mohammed: mohamed muhammad mohammad mo mehmet muhammed mohamad
moritz: mo
moshe: moses moishe
mustafa: mostafa moustafa
nadezhda: nadia nadya
nancy: nan
natalia: nat natasha natalie
natalie: nat
natasha: tasha
nathan: nate nat natan
nathaniel: nate nat nathan
nicholas: nick nicky nico nicolas klaus nik
nicola: nicky nic
nicole: nicky nikki nic
niccolo: nico nicolo
nicolas: nico nick
nikita: nik
nikolai: kolya nick nikolay
nikolaus: niko klaus nik
noemie: noe
norbert: bert
nuria: nuri
olga: olya
olivia: liv livvy ollie livia
oliver: ollie oli olli
omar: umar
oskar: oscar
otavio: tavinho
otto: odo
pamela: pam
pascal: pasi
patricia: pat patty trish tricia patsy
patrick: pat paddy rick patric
patrizia: patty
paul: pauly pablo
paula: polly
pawel: paul
penelope: penny
peter: pete piet
philip: phil pip phillip philipp filip
philipp: phil
pieter: piet peter
pilar: pili
piotr: peter piotrek
pooja: puja
rachel: rach rae rahel
rafael: rafa raf raphael
rainer: reiner
rajesh: raj
ramon: moncho
raymond: ray
rebecca: becky becca bex reba rivka rebekah
regina: gina
reinhard: hardy
renate: nate reni
ricardo: ricky rick cardo
riccardo: ricky ric
richard: rick dick rich richie ricky rik
robert: bob rob bobby robbie bert robin
roberta: bobbie robbie
roberto: beto rob berto tito
rocio: chio ro
roderick: rod rick
rodney: rod
roger: rog
roland: rolly roli
romain: rom
ronald: ron ronnie
ronen: ron
rosa: rosie
rose: rosie
rosemary: rose rosie
ruben: reuben
rudolf: rudi rolf
rudolph: rudy
russell: russ rusty
said: saeed sayed
salma: selma
salvatore: toto salvo turi
samantha: sam sammy
samir: sameer
samira: sam
samuel: sam sammy shmuel
sandra: sandy
sanne: susanne
santiago: santi diego
sara: sarah sal
sarah: sally sara sadie
sean: shaun shawn
sebastian: seb bastian basti sebastiano
sebastien: seb bastien
serena: sere
sergei: sergey serge seriozha serhiy
sergio: checho
shirley: shirl
siegfried: siggi
sigrid: siri
silvia: sylvia silvi
simon: si
sofia: sophia sofie sonia sophie
sneha: snehal
soeren: soren
solveig: solvei
sophia: sophie sofia
sophie: soph sofie
stanislaw: staszek stan stas
stefan: stef steve stephan
stefania: stefi
stefanie: steffi stef
stefano: ste
stephanie: steph stef stephie
stephen: steve stevie steph steven
steven: steve stevie
sunita: suni
suresh: sury
susan: sue susie suzy suzanne susanne
susanna: sanna susi
susanne: susi sanne
suzanne: sue suzy
svetlana: sveta lana
sylvester: sly
tadeusz: tadek ted
taina: tai
talia: talya tali
tamar: tamara tammy
tatiana: tanya tania tatyana
terence: terry
teresa: terry tess tessa tere resi theresa
theodore: ted teddy theo
theresa: terry tess tessa tracy
thiago: tiago
thijs: matthijs tijs mathijs
thomas: tom tommy thom tomas
timothy: tim timmy
tobias: tobi toby
tomasz: tomek tom
torbjorn: tobbe torbjoern
ulrich: uli ulli
ulrike: uli ulli rike
ursula: uschi ulla ursel
valentina: vale tina
valeria: vale
valentin: val vali
vanessa: nessa
veronica: vero ronnie roni
veronique: vero
victor: vic viktor
victoria: vicky vicki tori vickie viktoria
vincent: vince vinny vin vinnie
vinicius: vini
virginia: ginny ginger
vladimir: vlad volodya vova
volodymyr: vlad volodya vladimir
walter: walt wally
waldemar: waldi
wilhelm: willi will wim helmut
willem: wim pim will
willemijn: mijn mina
william: bill will billy willy liam willie wills
wojciech: wojtek
wolfgang: wolf wolfi
xavier: javier xavi
yael: jael
yousef: youssef yusuf yousuf joseph yusef
yuri: yury iurii yuriy
zachary: zach zack zak
zainab: zaynab zeinab zeynep
zofia: zosia sofia
zsuzsanna: zsuzsa
"""


def _read() -> dict[str, frozenset[str]]:
    fulls: dict[str, set[str]] = {}
    for line in _TABLE.strip().splitlines():
        full, _, shorts = line.partition(":")
        for short in shorts.split():
            fulls.setdefault(short, set()).add(full)
    return {short: frozenset(names) for short, names in fulls.items()}


_FULL_NAMES: Final = _read()
_NONE: Final[frozenset[str]] = frozenset()


def may_be_one_given_name(one: str, other: str) -> bool:
    """Whether two folded given names are a name and its short form, or short forms of one name."""
    ones = _FULL_NAMES.get(one, _NONE)
    others = _FULL_NAMES.get(other, _NONE)
    return other in ones or one in others or not ones.isdisjoint(others)


def full_names(short: str) -> frozenset[str]:
    """Return the full names that a folded given name may be short for, itself not among them."""
    return _FULL_NAMES.get(short, _NONE)
