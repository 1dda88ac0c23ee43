import { chromium } from 'playwright-core';
const base='http://localhost:18080';
const [,, who, scheme='light', width='1280', prefix='', ...paths] = process.argv;
const b = await chromium.launch({executablePath:'/usr/bin/chromium', args:['--headless=new','--no-sandbox','--disable-gpu','--disable-background-networking']});
const c = await b.newContext({viewport:{width:+width,height:900}, colorScheme: scheme});
const p = await c.newPage();
p.on('console', m=>{ if(m.type()==='error') console.log('console', m.text())}); p.on('pageerror', e=>console.log('pageerror', e.message));
p.on('request', r=>{ if(!r.url().startsWith('http://localhost:1808') && !r.url().startsWith('data:')) console.log('FOREIGN', r.url()) });
if (who !== '-') { await p.goto(base+'/sign-in'); await p.fill('[name=email]', who); await p.fill('[name=password]','tollkeeper-demo'); await p.click('button[type=submit]:has-text("Sign in")'); await p.waitForLoadState(); }
for (const path of paths) { const r = await p.goto(base+path); await p.waitForTimeout(path.includes('reference')?4000:500); const n='/tmp/shots/'+prefix+path.replaceAll('/','_').replaceAll('?','_')+'.png'; await p.screenshot({path:n, fullPage:true}); console.log(r.status(), p.url(), n); }
await b.close();
